"""Telephone numbers: international ones by their country code, national ones by usual forms.

The rules are our own, from the numbering plans of ITU-T E.164: country codes, and lengths of numbers. A national
number without groups (ten digits in a row) counts only after a word that says so.
"""

import re
from collections.abc import Iterator

from services.kit import patterns
from services.kit.privacy.finds import DIGITS, Find, alone, digits, runs
from services.kit.privacy.folding import Folded

_BETWEEN = rb"[ .\-/()\x81]{0,3}"
_WORLD = rb"(?i)(?:\+ ?|\(\+|\b00[ -]?|\bplus )[1-9](?:" + _BETWEEN + rb"[0-9]){6,14}"
_CUED = (
    rb"(?i)\b(?:tel|telefon|telefono|telefone|tel\x80fono|t\x80l|t\x80l\x80phone|telephone|telefoon|phone|mobile|mobil|"
    rb"m\x80vil|movil|celular|handy|cell|call|sms|fax|whatsapp|ring|rufen sie|appelez|llama|numer|puh)"
    rb"[ .:#(-]{0,4}(?:(?:no|nr|number|is|me|at|on|au|al|unter|us)\b[ .:(-]{1,3}){0,2}"
    rb"(\(?[0-9](?:" + _BETWEEN + rb"[0-9]){6,14})"
)
_AMERICA = rb"(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}"
_BRAZIL = rb"\([1-9][1-9]\) ?(?:9[ ]?)?[0-9]{4}[ -][0-9]{4}"
_INDIA = rb"\b0?[6-9][0-9]{4}[ -][0-9]{5}"
_CHINA = rb"\b1[3-9][0-9][ -][0-9]{4}[ -][0-9]{4}"
_SPAIN = rb"\b[679][0-9]{2}[ .-][0-9]{2}[ .-][0-9]{2}[ .-][0-9]{2}"
_TRUNK = rb"\(?0[1-9](?:[ .\-/()]{0,2}[0-9]){7,10}"
_FORMS = (_AMERICA, _BRAZIL, _INDIA, _CHINA, _SPAIN)
_DATE = re.compile(rb"\d{1,2}[-./ ]\d{1,2}[-./ ](?:19|20)\d\d|\d{4}[-./]\d\d[-./]\d\d")
_CODES = frozenset(
    """
    1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84
    86 90 91 92 93 94 95 98 211 212 213 216 218 220 221 222 223 224 225 226 227 228 229 230 231 232 233 234 235 236
    237 238 239 240 241 242 243 244 245 246 248 249 250 251 252 253 254 255 256 257 258 260 261 262 263 264 265 266
    267 268 269 290 291 297 298 299 350 351 352 353 354 355 356 357 358 359 370 371 372 373 374 375 376 377 378 380
    381 382 383 385 386 387 389 420 421 423 500 501 502 503 504 505 506 507 508 509 590 591 592 593 594 595 596 597
    598 599 670 672 673 674 675 676 677 678 679 680 681 682 683 685 686 687 688 689 690 691 692 800 808 850 852 853
    855 856 870 878 880 881 882 883 886 888 960 961 962 963 964 965 966 967 968 970 971 972 973 974 975 976 977 979
    992 993 994 995 996 998
    """.split()  # noqa: SIM905
)
# The fewest and most digits after a country code; of others 6 to 12.
_LENGTHS = {
    "1": (10, 10),
    "7": (10, 10),
    "33": (9, 9),
    "34": (9, 9),
    "31": (9, 9),
    "32": (8, 9),
    "39": (6, 11),
    "41": (9, 9),
    "44": (9, 10),
    "45": (8, 8),
    "46": (7, 9),
    "47": (8, 8),
    "48": (9, 9),
    "49": (6, 11),
    "55": (10, 11),
    "61": (9, 9),
    "81": (9, 10),
    "82": (8, 10),
    "86": (10, 11),
    "91": (10, 10),
    "351": (9, 9),
    "353": (7, 9),
    "420": (9, 9),
}


def numbers(folded: Folded) -> Iterator[Find]:
    """Telephone numbers, international ones first."""
    seen = folded.seen
    taken = 0
    for start, end in runs(_WORLD, folded):
        start += seen[start : start + 1] == b"("
        if start >= taken and (found := _international(seen, start, end)):
            taken = found[0]
            yield Find(*folded.span(start, taken), "phone", found[1])
    for match in patterns.octets(_CUED).finditer(seen):
        start, end = match.span(1)
        if end == len(seen) or seen[end] not in DIGITS:
            yield _national(folded, start, end)
    for pattern in _FORMS:
        for start, end in runs(pattern, folded):
            if alone(seen, start, end):
                yield _national(folded, start, end)
    for start, end in runs(_TRUNK, folded):
        if alone(seen, start, end) and _grouped(seen[start:end]):
            yield _national(folded, start, end)


def _international(seen: bytes, start: int, end: int) -> tuple[int, str] | None:
    """Where an international number ends, and its value; None for one that no country has."""
    if start and (seen[start - 1] in DIGITS or seen[start - 1 : start].isalpha()):
        return None
    written = seen[start:end].replace(b"(0)", b"")
    number = digits(written)
    number = number[2:] if number.startswith("00") else number
    code = next((number[:size] for size in (1, 2, 3) if number[:size] in _CODES), "")
    if not code:
        return None
    fewest, most = _LENGTHS.get(code, (6, 12))
    if len(number) - len(code) > most:  # what follows behind a space is another number
        end = _cut(seen, start, end, most + len(number) - len(digits(written).removeprefix("00")) + len(code))
        number = number[: len(code) + most]
    if len(number) - len(code) < fewest or (end < len(seen) and seen[end] in DIGITS):
        return None
    return end, f"+{number}"


def _cut(seen: bytes, start: int, end: int, count: int) -> int:
    """The place after `count` digits, without those of `00` and `(0)`."""
    place = start + 2 if seen[start : start + 2] == b"00" else start
    while place < end and count:
        if seen[place : place + 3] == b"(0)":
            place += 3
            continue
        count -= seen[place] in DIGITS
        place += 1
    return place


def _grouped(written: bytes) -> bool:
    """Whether a number with a leading zero is written in groups, and is no date."""
    number = digits(written)
    parts = [part for part in re.split(rb"[^0-9]+", written) if part]
    if not 9 <= len(number) <= 12 or len(parts) < 2 or _DATE.match(written):
        return False
    return len(parts[0]) >= 3 or len(parts) >= 4 or written[:1] == b"("


def _national(folded: Folded, start: int, end: int) -> Find:
    found = folded.seen[start:end]
    if found[:1] == b"(" and b")" not in found:
        start += 1
    return Find(*folded.span(start, end), "phone", digits(found))
