"""Numbers of payment cards and bank accounts."""

from collections.abc import Iterator

from services.kit import patterns
from services.kit.privacy import checksums
from services.kit.privacy.finds import DIGITS, Find, digits, runs
from services.kit.privacy.folding import Folded

_NUMBERS = rb"[0-9](?:[ .-]{0,2}[0-9]){11,}"
_GROUP = rb"[0-9]+"
_SHORTEST, _LONGEST = 12, 19
_USUAL, _GROUPS = 15, 8  # of a card after other digits: the fewest digits, the most groups
# Brands: the range of the first digits, and the lengths.
_BRANDS = (
    (34, 34, (15,)),
    (37, 37, (15,)),
    (300, 305, (14,)),
    (36, 36, (14,)),
    (38, 39, (14,)),
    (3528, 3589, (16,)),
    (4, 4, (13, 16, 19)),
    (51, 55, (16,)),
    (2221, 2720, (16,)),
    (50, 50, (12, 13, 14, 15, 16, 17, 18, 19)),
    (56, 58, (12, 13, 14, 15, 16, 17, 18, 19)),
    (6011, 6011, (16, 19)),
    (644, 649, (16, 19)),
    (65, 65, (16, 19)),
    (60, 61, (16,)),
    (62, 62, (16, 17, 18, 19)),
    (63, 63, (16, 18, 19)),
    (67, 67, (16, 17, 18, 19)),
    (81, 82, (16,)),
    (2200, 2204, (16,)),
)
_WORD = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_\x80")
_IBAN = rb"(?i)[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,30}"
_IBANS = {
    **dict.fromkeys(("NO",), 15),
    **dict.fromkeys(("BE",), 16),
    **dict.fromkeys(("DK", "FI", "FO", "GL", "NL", "SD"), 18),
    **dict.fromkeys(("MK", "SI"), 19),
    **dict.fromkeys(("AT", "BA", "EE", "KZ", "LT", "LU", "XK"), 20),
    **dict.fromkeys(("CH", "HR", "LI", "LV"), 21),
    **dict.fromkeys(("BG", "BH", "CR", "DE", "GB", "GE", "IE", "ME", "RS", "VA"), 22),
    **dict.fromkeys(("AE", "GI", "IL", "IQ", "TL"), 23),
    **dict.fromkeys(("AD", "CZ", "ES", "MD", "PK", "RO", "SA", "SE", "SK", "TN", "VG"), 24),
    **dict.fromkeys(("LY", "PT", "ST"), 25),
    **dict.fromkeys(("IS", "TR"), 26),
    **dict.fromkeys(("BI", "DJ", "FR", "GR", "IT", "MC", "MR", "SM"), 27),
    **dict.fromkeys(("AL", "AZ", "BY", "CY", "DO", "GT", "HU", "LB", "NI", "PL", "SV"), 28),
    **dict.fromkeys(("BR", "EG", "PS", "QA", "UA"), 29),
    **dict.fromkeys(("JO", "KW", "MU", "YE"), 30),
    **dict.fromkeys(("MT", "SC"), 31),
    **dict.fromkeys(("LC",), 32),
    **dict.fromkeys(("RU",), 33),
}


def cards(folded: Folded) -> Iterator[Find]:
    """Card numbers of the known brands, with or without groups, whose check digit is right."""
    seen = folded.seen
    for start, end in runs(_NUMBERS, folded):
        if (start and seen[start - 1] in _WORD) or (end < len(seen) and seen[end] in _WORD):
            continue
        groups = [
            (start + a, start + b) for a, b in (m.span() for m in patterns.octets(_GROUP).finditer(seen[start:end]))
        ]
        place = 0
        while place < len(groups):
            last = _card(seen, groups, place)
            if last is None:
                place += 1
                continue
            first, after = groups[place][0], groups[last][1]
            yield Find(*folded.span(first, after), "card", digits(seen[first:after]))
            place = last + 1


def _card(seen: bytes, groups: list[tuple[int, int]], place: int) -> int | None:
    """The last group of the longest card number that begins at the group `place`; None if none begins there."""
    number, found = "", None
    shortest, most = (_SHORTEST, _LONGEST) if place == 0 else (_USUAL, _GROUPS)
    for last in range(place, min(place + most, len(groups))):
        number += seen[groups[last][0] : groups[last][1]].decode()
        if len(number) > _LONGEST:
            break
        if len(number) >= shortest and _is_card(number):
            found = last
    return found


def _is_card(number: str) -> bool:
    known = any(low <= int(number[: len(str(low))]) <= high and len(number) in sizes for low, high, sizes in _BRANDS)
    return known and len(set(number)) > 1 and checksums.luhn(number)


def accounts(folded: Folded) -> Iterator[Find]:
    """IBANs of the length of their country, whose check digits are right."""
    seen = folded.seen
    for start, end in runs(_IBAN, folded):
        length = _IBANS.get(seen[start : start + 2].decode("latin-1").upper(), 0)
        if not length or (start and (seen[start - 1] in _WORD or seen[start - 1] in DIGITS)):
            continue
        number = ""
        for place in range(start, end):
            if seen[place] not in b" -":
                number += chr(seen[place]).upper()
            if len(number) == length:
                touched = place + 1 < len(seen) and (seen[place + 1] in _WORD or seen[place + 1] in DIGITS)
                if not touched and checksums.mod97(number[4:] + number[:4]):
                    yield Find(*folded.span(start, place + 1), "iban", number)
                break
