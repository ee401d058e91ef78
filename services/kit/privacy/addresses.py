"""E-mail addresses, also when they are spelt out, and IP addresses."""

import ipaddress
from collections.abc import Iterator

from services.kit import patterns
from services.kit.privacy.finds import Find, alone, runs
from services.kit.privacy.folding import Folded

_OPEN, _SHUT = rb"[\(\[{<] {0,2}", rb" {0,2}[\)\]}>]"
_AT_WORD, _DOT_WORD = rb"(?:at|@|arroba|chez|ett|aet)", rb"(?:dot|\.|punkt|punto|punkti|point|ponto|kropka)"
_BRACKETED_AT, _BRACKETED_DOT = _OPEN + _AT_WORD + _SHUT, _OPEN + _DOT_WORD + _SHUT
_AT = rb"(?:@|%40|&#64;|&commat;| ?" + _BRACKETED_AT + rb" ?| @ )"
_DOT = rb"(?:\.| \. | ?" + _BRACKETED_DOT + rb" ?| (?:dot|punkt|punto|punkti|point|ponto|kropka) )"
_SAID_DOT = rb"(?: ?" + _BRACKETED_DOT + rb" ?| (?:dot|punkt|punto|punkti|point|ponto|kropka) )"
_ATOM = rb"[A-Za-z0-9\x80_+][A-Za-z0-9\x80_+'-]{0,63}"
_LOCAL = _ATOM + rb"(?:" + _DOT + _ATOM + rb"){0,5}"
_LABEL = rb"[A-Za-z0-9\x80](?:[A-Za-z0-9\x80-]{0,61}[A-Za-z0-9\x80])?"
_LAST = rb"(?:[A-Za-z\x80]{2,24}|xn--[A-Za-z0-9-]{2,59})"
_WRITTEN = _LOCAL + _AT + rb"(?:" + _LABEL + _DOT + rb"){1,6}" + _LAST
# A bare `at` is an everyday word: it makes an address only with a spelt dot.
_SAID = _LOCAL + rb" (?:at|arroba|chez) (?:" + _LABEL + _SAID_DOT + rb"){1,6}" + _LAST
_EMAIL = rb"(?i)(?:" + _WRITTEN + rb"|" + _SAID + rb")"
_WORD_AT = rb"(?i) (?:at|arroba|chez) "
_ON = rb"(?i) (?:at|arroba|chez) " + _LABEL + _SAID_DOT + _LABEL
_TO_AT = rb"(?i) ?(?:@|%40|&#64;|&commat;|" + _BRACKETED_AT + rb"| (?:at|arroba|chez) ) ?"
_TO_DOT = rb"(?i) ?(?:" + _BRACKETED_DOT + rb"| (?:dot|punkt|punto|punkti|point|ponto|kropka) ) ?"
_FOUR = rb"(?:[0-9]{1,3}(?:\.|\[\.\]|\(\.\))){3}[0-9]{1,3}"
_SIX = rb"(?i)[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?:(?:\.[0-9]{1,3}){3})?"


def emails(folded: Folded) -> Iterator[Find]:
    """`name@host.tld`, `name (at) host dot tld`, in any script."""
    seen, place = folded.seen, 0
    while match := patterns.octets(_EMAIL).search(seen, place):
        start, end = match.span()
        again = patterns.octets(_WORD_AT).search(seen, start, end)
        if again and patterns.octets(_ON).match(seen, end):
            place = again.end()  # `me at john dot doe at host dot tld`: the first one is a word
            continue
        place = end
        yield Find(*folded.span(start, end), "email", _plain(folded, start, end))


def _plain(folded: Folded, start: int, end: int) -> str:
    """The usual form of an address, in small letters."""
    seen = folded.seen[start:end]
    found = patterns.octets(_TO_AT).search(seen)
    at, after = found.span() if found else (len(seen), len(seen))
    parts = (_undotted(folded, start, start + at), _undotted(folded, start + after, end))
    return "@".join(parts)


def _undotted(folded: Folded, start: int, end: int) -> str:
    pieces, place = list[str](), start
    for match in patterns.octets(_TO_DOT).finditer(folded.seen[start:end]):
        pieces.append(_letters(folded, place, start + match.start()))
        place = start + match.end()
    pieces.append(_letters(folded, place, end))
    return ".".join(pieces)


def _letters(folded: Folded, start: int, end: int) -> str:
    """The text of some bytes, in small letters."""
    seen = folded.seen[start:end].decode("latin-1")
    if seen.isascii():
        return seen.lower()
    return "".join(folded.original(start + i, start + i + 1) if c >= "\x80" else c for i, c in enumerate(seen)).lower()


def machines(folded: Folded) -> Iterator[Find]:
    """IPv4 and IPv6 addresses."""
    for pattern in (_FOUR, _SIX):
        for start, end in runs(pattern, folded):
            written = folded.seen[start:end].decode("latin-1")
            plain = written.replace("[", "").replace("]", "").replace("(", "").replace(")", "")
            if alone(folded.seen, start, end) and (address := _address(plain)):
                yield Find(*folded.span(start, end), "ip", address)


def _address(text: str) -> str:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return ""
    return "" if found.is_unspecified else found.compressed
