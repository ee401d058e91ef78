"""National identification numbers, by their form and, where they have one, their check digit.

Where any number of the same length is often valid by chance (Dutch, British, Indian), a form or a word before it must
say what it is.
"""

import re
from collections.abc import Callable, Iterator
from datetime import date
from typing import NamedTuple

from services.kit import patterns
from services.kit.privacy import checksums
from services.kit.privacy.finds import Find, alone
from services.kit.privacy.folding import Folded

_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"  # of Spanish numbers, by their rest of 23
_MARKS = "0123456789ABCDEFHJKLMNPRSTUVWXY"  # of Finnish ones, by their rest of 31
_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_SOCIAL = re.compile(r"(?!000|666|9)\d{3}(?!00)\d\d(?!0000)\d{4}")
_CODE, _MORE = re.compile(rb"\+[0-9]{1,3}[ ().0-]{0,4}\Z"), re.compile(rb" [0-9]{2}")
_PLAIN = re.compile(r"[^0-9A-Z+]")


class Identity(NamedTuple):
    """A national number: how it is written, and whether one is valid."""

    country: str
    pattern: bytes
    valid: Callable[[str], bool]


def _day(year: int, month: str, day: str) -> bool:
    try:
        return bool(date(year, int(month), int(day)))
    except ValueError:
        return False


def _spain(number: str) -> bool:
    """DNI and NIE."""
    first = {"X": "0", "Y": "1", "Z": "2"}.get(number[0], number[0])
    return _LETTERS[int(first + number[1:-1]) % 23] == number[-1]


def _italy(number: str) -> bool:
    """Codice fiscale."""
    total = 0
    for place, char in enumerate(number[:-1]):
        value = int(char) if char.isdigit() else ord(char) - ord("A")
        total += value if place % 2 else _ODD[value]
    return chr(ord("A") + total % 26) == number[-1]


def _france(number: str) -> bool:
    """NIR, with the letters of Corsica."""
    body = number[:13].replace("2A", "19").replace("2B", "18")
    return body.isdigit() and 97 - int(body) % 97 == int(number[13:])


def _germany(number: str) -> bool:
    """Identifikationsnummer: one digit comes twice or three times among the first ten."""
    counts = sorted((number[:10].count(char) for char in set(number[:10])), reverse=True)
    return counts[0] in (2, 3) and counts[1:2] != [counts[0]] and checksums.mod11_10(number)


def _poland(number: str) -> bool:
    """PESEL: the month tells the century."""
    century, month = divmod(int(number[2:4]), 20)
    year = (1900, 2000, 2100, 2200, 1800)[century] + int(number[:2])
    right = checksums.weighted(number, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0
    return right and _day(year, str(month), number[4:6])


def _brazil(number: str) -> bool:
    """CPF."""
    for size in (9, 10):
        rest = checksums.weighted(number[:size], range(size + 1, 1, -1)) * 10 % 11 % 10
        if rest != int(number[size]):
            return False
    return len(set(number)) > 1


def _china(number: str) -> bool:
    """Resident identity number."""
    return _day(int(number[6:10]), number[10:12], number[12:14]) and checksums.mod11_2(number)


def _finland(number: str) -> bool:
    """Henkilötunnus, without its sign for the century."""
    return _day(2000, number[2:4], number[:2]) and _MARKS[int(number[:9]) % 31] == number[-1]


def _sweden(number: str) -> bool:
    """Personnummer: of the last ten digits."""
    short = number[-10:]
    day = int(short[4:6])
    return _day(2000, short[2:4], str(day - 60 if day > 60 else day)) and checksums.luhn(short)


def _netherlands(number: str) -> bool:
    """BSN."""
    return checksums.weighted(number, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and len(set(number)) > 1


def _health(number: str) -> bool:
    """NHS number."""
    check = 11 - checksums.weighted(number[:9], range(10, 1, -1)) % 11
    return check != 10 and check % 11 == int(number[-1]) and len(set(number)) > 1


def _america(number: str) -> bool:
    """Social security number: it has no check digit, but some numbers are never issued."""
    return bool(_SOCIAL.fullmatch(number))


def _britain(number: str) -> bool:
    """National insurance number: it has no check digit, but some prefixes are never issued."""
    return number[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


KINDS = (
    Identity("es", rb"(?i)\b(?:[0-9]{8}|[0-9]{2}\.[0-9]{3}\.[0-9]{3}|[XYZ][ -]?[0-9]{7})[ -]?[A-Z]", _spain),
    Identity("it", rb"(?i)\b[A-Z]{6} ?[0-9]{2}[A-EHLMPRST][0-9]{2} ?[A-Z][0-9]{3}[A-Z]", _italy),
    Identity(
        "fr", rb"(?i)\b[12][ .]?[0-9]{2}[ .]?[0-9]{2}[ .]?[0-9][0-9AB][ .]?[0-9]{3}[ .]?[0-9]{3}[ .]?[0-9]{2}", _france
    ),
    Identity("de", rb"\b[1-9][0-9](?:[0-9]{9}| [0-9]{3} [0-9]{3} [0-9]{3})", _germany),
    Identity("pl", rb"\b[0-9]{11}", _poland),
    Identity("br", rb"\b[0-9]{3}[.]?[0-9]{3}[.]?[0-9]{3}-?[0-9]{2}", _brazil),
    Identity("cn", rb"(?i)\b[1-8][0-9]{5} ?(?:18|19|20)[0-9]{6} ?[0-9]{3}[0-9X]", _china),
    Identity("fi", rb"(?i)\b[0-3][0-9][01][0-9]{3}[-+A-FU-Y][0-9]{3}[0-9A-Y]", _finland),
    Identity("se", rb"\b(?:(?:18|19|20)[0-9]{2}|[0-9]{2})[01][0-9][0-9]{2}[-+][0-9]{4}", _sweden),
    Identity("se", rb"\b(?:19|20)[0-9]{2}[01][0-9][0-9]{6}", _sweden),
    Identity("in", rb"\b[2-9][0-9]{3}[ -][0-9]{4}[ -][0-9]{4}", checksums.verhoeff),
    Identity("in", rb"(?i)\b(?:aadhaar|aadhar|uidai)[^0-9]{0,12}([2-9][0-9]{11})", checksums.verhoeff),
    Identity("nl", rb"(?i)\b(?:bsn|burgerservicenummer|sofi)[^0-9]{0,12}([0-9]{9})", _netherlands),
    Identity("gb", rb"\b[0-9]{3}[ -][0-9]{3}[ -][0-9]{4}", _health),
    Identity("gb", rb"(?i)\bnhs[^0-9]{0,12}([0-9]{10})", _health),
    Identity("gb", rb"(?i)\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]", _britain),
    Identity("us", rb"\b[0-8][0-9]{2}[- ][0-9]{2}[- ][0-9]{4}", _america),
    Identity("us", rb"(?i)\b(?:ssn|social security(?: number| no)?)[^0-9]{0,6}([0-8][0-9]{8})", _america),
)


def _dialled(seen: bytes, start: int, end: int) -> bool:
    """Whether a calling code is in front of a number, or more digits follow after a space: a telephone number."""
    return bool(_CODE.search(seen[max(start - 8, 0) : start]) or _MORE.match(seen[end : end + 3]))


def identities(folded: Folded) -> Iterator[Find]:
    """National identification numbers of twelve countries."""
    seen = folded.seen
    for kind in KINDS:
        for match in patterns.octets(kind.pattern).finditer(seen):
            start, end = match.span(1) if match.re.groups else match.span()
            plain = _PLAIN.sub("", seen[start:end].decode("latin-1").upper())
            number = plain.replace("+", "") if kind.country in ("se", "fi") else plain
            if kind.country == "fi" and len(number) == 11:
                number = number[:6] + number[7:]
            if alone(seen, start, end) and not _dialled(seen, start, end) and kind.valid(number):
                yield Find(*folded.span(start, end), "national_id", f"{kind.country}:{number}")
