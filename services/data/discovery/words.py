"""Lines of text as words with their values taken out: what two lines of the same kind have in common. Pure."""

import re
from functools import lru_cache

HOLE = "\0"  # stands for a value
Words = tuple[str, ...]

_MOST = 60  # words of a line that are told apart; what follows is one value
_LONGEST = 256  # characters of a word; a longer one is a value. Forms are looked for in time that grows with the square
_WORD = re.compile(r"[^ \t\n\f\r]+")  # what RE2's \s+ stands between; other spaces are part of a word
# Values that show by their form, the more special ones first. None begins or ends inside a word.
_VALUES = re.compile(
    r"""(?x)
      [a-z][a-z0-9+.-]{1,20}://[^\s"'<>\])},]+                                               # URL
    | [\w.+-]+@[\w-]+(?:\.[\w-]+)+                                                           # mail address
    | (?<![\w-])[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?!\w)                   # UUID
    | (?<![\w.])\d{4}[-/.]\d\d[-/.]\d\d[T_:-]\d\d[:.]\d\d[:.]\d\d(?:[.,:]\d+)?(?:Z|[+-]\d\d:?\d\d)?(?!\w)
    | (?<![\w.])(?:\d{4}[-/.]\d\d[-/.]\d\d|\d\d[-/]\d\d[-/]\d{2,4})(?!\w)                    # date
    | (?<![\w.:])\d\d:\d\d:\d\d(?:[.,]\d+)?(?!\w)                                            # time of day
    | (?<![\w:])(?:[0-9a-fA-F]{2}:){3,}[0-9a-fA-F]{2}(?![\w:])                               # MAC address, bytes
    | (?<![\w.])/?\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?(?!\w)                                 # IP address, port
    | (?<![\w./-])(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?\.)+[a-zA-Z]{2,}:\d+(?!\w)      # host and port
    | (?<![\w.:)])(?:[a-zA-Z]:)?(?:[/\\][\w.@%+~$*-]+){2,}[/\\]?                             # path
    | (?<!\w)0x[0-9a-fA-F]+(?!\w)
    | (?<!\w)[+-]?\d+(?:\.\d+)*(?:[eE][+-]?\d+|-(?:alpha|beta|rc|SNAPSHOT)(?:[.-]?\d+)?)?%?(?!\w)  # number, version
    | (?<![\w.])[+-]?\d+(?:\.\d+)?(?=(?:ms|us|ns|s|m|h|B|KB|MB|GB|TB|kB|k|K|M|G|Hz)(?!\w))   # ... with a unit
    | (?<![\w.~-])(?:[0-9a-f]{8,}|[0-9A-F]{8,})(?![\w.~-])                                   # hexadecimal
    | (?<![\w.~-])(?P<kind>(?:[A-Z]?[a-z]{2,}|[A-Z]{3,})+(?<=[A-Za-z]{3}))                   # id behind what it is of
      [_-]*(?=\d)\w*(?:(?:[-~]{1,2}|\.)\w+)*
    | (?<![\w.~-])(?=[\w.~-]*\d)(?P<id>[A-Za-z0-9_]+(?:(?:[-~]{1,2}|\.)[A-Za-z0-9_]+)*)      # id with digits
    | [A-Za-z_]*\d[A-Za-z0-9_]*
    """
)
_ASSIGNED = re.compile(r"(?<=[\w\])])=(?:[^\s,;&|)\]}\"'(\[{<>=]+|(?=[,;]?\Z))")
# Brackets and quotes with several words in them: together they are one word.
_ENCLOSED = re.compile(
    r"\([^()]{1,80}\)|\[[^\[\]]{1,80}\]|\{[^{}]{1,80}\}|<[^<>]{1,80}>|\"[^\"]{1,80}\"|(?<!\w)'[^']{1,80}'(?!\w)"
)
_SPACE = "\1"  # in them
# Spaces that say nothing, and lists in brackets.
_GAPS = re.compile(r"(?<=[\s(\[{<]) +| +(?=[)\]}>])")
_LIST = re.compile(r"([\[({] ?)[\w.$/:@-]+(?:, ?[\w.$/:@-]+)+( ?[\])}])")
_QUOTED = re.compile(r"\"[^\"\s]*\"|(?<!\w)'[^'\s]*'(?!\w)")
_CONSTANTS = frozenset(["true", "false", "True", "False", "TRUE", "FALSE", "null", "NULL", "None", "nil"])
_CONSTANT = re.compile(rf"(?<![\w.-])(?:{'|'.join(sorted(_CONSTANTS))})(?![\w.-])")
_ADJACENT = re.compile(rf"{HOLE}(?:[-+.~:/#|,*]*{HOLE})+")
# Values of several words: a number with its unit, or several of them (1m 30s), and a time with the name of its month.
_QUANTITY = re.compile(
    r"""(?x)
      (?<![\w.:-])\d+(?:\.\d+)?[ ]?(?:[kKMGT]?i?B|ns|us|ms|msec|s|secs?|seconds|m|min|h)(?!\w)
      (?:[ ]\d+(?:ms|s|m|h)(?!\w))*
    | (?<!\w)(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),?[ ])?(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[ ]+
      \d+[ ]\d\d:\d\d:\d\d(?:[ ][A-Z]{3,4})?(?:[ ]\d{4})?(?!\w)
    """
)


def words_of(text: str) -> Words:
    """The words of a text, with a HOLE for each value that shows by its form; neighbouring values are one."""
    if HOLE in text:
        text = text.replace(HOLE, " ")
    text = _ENCLOSED.sub(_closed, _LIST.sub(r"\g<1>0\g<2>", _QUANTITY.sub("0", text)))
    found = squeezed([_shape(word) if len(word) <= _LONGEST else HOLE for word in _WORD.findall(text)])
    return found if len(found) <= _MOST else (*found[:_MOST], HOLE)


def _closed(found: re.Match[str]) -> str:
    return _GAPS.sub("", found[0]).replace(" ", _SPACE)


def squeezed(words: "Words | list[str]") -> Words:
    """Words with runs of holes made one, as in lists of values."""
    kept: list[str] = []
    for word in words:
        if word.startswith(HOLE) and len(kept) > 1 and kept[-1] == "-" and kept[-2].endswith(HOLE):
            del kept[-1]  # a value that is missing
        if kept and word.startswith(HOLE) and _goes_on(kept[-1], word):
            kept[-1] = kept[-1].rstrip(",;") + word[1:]
        else:
            kept.append(word)
    if kept[-1:] == ["-"] and kept[-2:-1] and kept[-2].endswith(HOLE):
        del kept[-1]
    return tuple(kept)


def _goes_on(before: str, word: str) -> bool:
    """Whether a list that a word ends with goes on in the next one."""
    if before.endswith((HOLE + ",", HOLE + ";")):
        return word.rstrip(",;)]}>") == HOLE
    return before.endswith(HOLE) and word.rstrip(",;") == HOLE


def _hollow(found: re.Match[str]) -> str:
    """A HOLE, behind the letters that an id begins with: what it is an id of tells messages apart."""
    if found["id"] and not any(map(str.isdigit, found["id"])):
        return found[0]
    return (found["kind"] or "") + HOLE


@lru_cache(100_000)
def _shape(word: str) -> str:
    if word.isalpha():
        return HOLE if word in _CONSTANTS else word
    if _SPACE in word:
        first, *inner = word.split(_SPACE)
        return " ".join([_shape(first), *map(_shape, inner)])
    shape = _QUOTED.sub(lambda quoted: quoted[0][0] + HOLE + quoted[0][0], word)
    shape = _CONSTANT.sub(HOLE, _VALUES.sub(_hollow, shape))
    return _ADJACENT.sub(HOLE, _ASSIGNED.sub("=" + HOLE, shape))
