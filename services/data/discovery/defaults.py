"""What decides which words are values: one set of constants for every log. No source has settings of its own.

They were chosen on the logs of `tests/data/discovery/systems.py`, on eight of the sixteen of `tests/bench/held_out.py`,
and on lines that were made after the published templates of ten public systems.
"""

# Different words at one place, with the same words around, that make them values:
MANY = 14  # whatever they are
SOME, UNSEEN = 6, 0.15  # when this share of the lines has a word that is seen once: more words are to come
PLAIN, PLAIN_FIRST = 5, 8  # words of a language, behind and at the first place, with more than OWN words around
NAMES, NAMES_FIRST = 4, 6  # names: what no language has, like `TideListener` and `svc_mill`
STATES = 3  # words in capitals, with more than OWN words around
EXPECTED = 3  # plain words where values stand in other kinds, or behind a word of INTRODUCING
OWN, OWN_FIRST, STRONG = 1, 2, 4  # words around that are the kind's own; above STRONG, one word less is enough

# Pairs of places: different pairs that are surely values, and the share of pairs seen once that fewer need.
PAIRS, PAIRS_ONCE = 8, 0.3

# Values of several words.
PHRASE, TAIL = 4, 8  # words of one between others, and at the end
PHRASES = 4  # different ones at the end, behind a colon or a comma, are values
TAILS, TAILS_ONCE = 5, 0.3  # behind anything else: as many seen once, and that share of the lines
HOLLOW, HOLLOW_ONCE = 2, 0.2  # the same where a value of one word stands there, too
VALUES = 0.9  # of the lines have what looks like a value there

# Kinds above which pairs of places, and pairs of kinds, are too many to look at.
CROWD, FEW = 2_000, 500

# Words that stand in front of a value more often than not.
# fmt: off
INTRODUCING = frozenset([
    "account", "address", "by", "client", "device", "directory", "domain", "file", "folder", "from", "host", "hostname",
    "id", "interface", "job", "key", "name", "node", "path", "port", "server", "service", "session", "task", "user",
    "username", "users",
])
# fmt: on
# Words of one kind, of which any may stand where another stands.
METHODS = frozenset(["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"])
