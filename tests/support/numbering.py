"""Numbers of people and payments that are right by the rules as published, worked out anew."""

import string
from collections.abc import Callable
from random import Random

# Verhoeff's tables as published.
_D = ["0123456789", "1234067895", "2340178956", "3401289567", "4012395678"]
_D += ["5987604321", "6598710432", "7659821043", "8765932104", "9876543210"]
_P = ["0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258"]
_ODD = "BAKPLCQDREVOSFTGUHMINJWZYX"  # the letter of each value at an odd place of a codice fiscale


def text(rng: Random, size: int, letters: str = string.digits) -> str:
    return "".join(rng.choice(letters) for _ in range(size))


def completed(number: str, right: Callable[[str], bool], letters: str = string.digits) -> str | None:
    """The number with the one last letter that makes it right."""
    return next((number + letter for letter in letters if right(number + letter)), None)


def luhn(number: str) -> bool:
    doubled = [int(c) * 2 if place % 2 else int(c) for place, c in enumerate(number[::-1])]
    return sum(sum(map(int, str(value))) for value in doubled) % 10 == 0


def card(rng: Random) -> str:
    start, size = rng.choice([("4", 16), ("4", 13), ("51", 16), ("55", 16), ("2223", 16), ("34", 15), ("37", 15)])
    if rng.random() < 0.2:
        start, size = rng.choice([("6011", 16), ("3530", 16), ("36", 14), ("62", 16), ("6759", 16), ("302", 14)])
    return completed(start + text(rng, size - len(start) - 1), luhn) or ""


def iban(rng: Random) -> str:
    country, form = rng.choice(
        [("DE", "18n"), ("FR", "23n"), ("GB", "4a14n"), ("ES", "20n"), ("IT", "1a22n"), ("NL", "4a10n"), ("PL", "24n"),
         ("CH", "17n"), ("AT", "16n"), ("BE", "12n"), ("SE", "20n"), ("NO", "11n"), ("PT", "21n"), ("IE", "4a14n")]
    )  # fmt: skip
    body = ""
    for count, kind in (
        ((form[: form.index("a")], "a"), (form[form.index("a") + 1 : -1], "n")) if "a" in form else ((form[:-1], "n"),)
    ):
        body += text(rng, int(count), string.ascii_uppercase if kind == "a" else string.digits)
    value = int("".join(str(string.ascii_uppercase.index(c) + 10) if c.isalpha() else c for c in f"{body}{country}00"))
    return f"{country}{98 - value % 97:02d}{body}"


def _day(rng: Random) -> tuple[str, str, str]:
    return f"{rng.randrange(40, 100)}", f"{rng.randrange(1, 13):02d}", f"{rng.randrange(1, 29):02d}"


def spain(rng: Random) -> str:
    number = rng.randrange(10**8)
    letter = "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23]
    if rng.random() < 0.3:
        number %= 10**7
        return f"X{number:07d}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"
    return f"{number:08d}{rng.choice(['', '-'])}{letter}"


def italy(rng: Random) -> str:
    year, _, day = _day(rng)
    body = (
        f"{text(rng, 6, 'BCDFGLMNPRSTVAEIO')}{year}{rng.choice('ABCDEHLMPRST')}{day}{rng.choice('AFHL')}{text(rng, 3)}"
    )
    total = 0
    for place, char in enumerate(body, 1):
        value = int(char) if char.isdigit() else string.ascii_uppercase.index(char)
        total += _ODD.index(string.ascii_uppercase[value]) if place % 2 else value
    return body + string.ascii_uppercase[total % 26]


def france(rng: Random) -> str:
    year, month, _ = _day(rng)
    body = f"{rng.choice('12')}{year}{month}{rng.randrange(1, 96):02d}{text(rng, 6)}"
    key = f"{97 - int(body) % 97:02d}"
    if rng.random() < 0.5:
        return body + key
    return f"{body[0]} {body[1:3]} {body[3:5]} {body[5:7]} {body[7:10]} {body[10:]} {key}"


def germany(rng: Random) -> str:
    order = list(string.digits)
    rng.shuffle(order)
    order[rng.randrange(1, 10)] = order[0]
    if order[0] == "0":
        order = [c if c != "0" else "7" for c in order]
    if len(set(order)) != 9:
        return germany(rng)

    def right(number: str) -> bool:
        rest = 10
        for char in number[:10]:
            rest = ((int(char) + rest) % 10 or 10) * 2 % 11
        return str((11 - rest) % 10) == number[10]

    return completed("".join(order), right) or germany(rng)


def poland(rng: Random) -> str:
    year, month, day = _day(rng)
    body = year + month + day + text(rng, 4)
    return body + str(-sum(int(c) * w for c, w in zip(body, (1, 3, 7, 9) * 3, strict=False)) % 10)


def brazil(rng: Random) -> str:
    body = text(rng, 9)
    for _ in range(2):
        total = sum(int(c) * w for c, w in zip(body[::-1], range(2, 12), strict=False)) % 11
        body += "0" if total < 2 else str(11 - total)
    return f"{body[:3]}.{body[3:6]}.{body[6:9]}-{body[9:]}" if rng.random() < 0.7 else body


def china(rng: Random) -> str:
    year, month, day = _day(rng)
    body = f"{rng.choice(['110105', '310104', '440308'])}19{year}{month}{day}{text(rng, 3)}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return body + "10X98765432"[sum(int(c) * w for c, w in zip(body, weights, strict=True)) % 11]


def finland(rng: Random) -> str:
    year, month, day = _day(rng)
    number = f"{rng.randrange(2, 900):03d}"
    return f"{day}{month}{year}-{number}{'0123456789ABCDEFHJKLMNPRSTUVWXY'[int(day + month + year + number) % 31]}"


def sweden(rng: Random) -> str:
    year, month, day = _day(rng)
    body = completed(year + month + day + text(rng, 3), luhn) or ""
    return f"{body[:6]}-{body[6:]}" if rng.random() < 0.6 else f"19{body}"


def india(rng: Random) -> str:
    def right(number: str) -> bool:
        check = 0
        for place, char in enumerate(number[::-1]):
            check = int(_D[check][int(_P[place % 8][int(char)])])
        return check == 0

    number = completed(rng.choice("23456789") + text(rng, 10), right) or ""
    return f"{number[:4]} {number[4:8]} {number[8:]}"


def britain(rng: Random) -> str:
    if rng.random() < 0.5:
        pieces = [text(rng, 2) for _ in range(3)]
        return " ".join([rng.choice("ABCEHJK") + rng.choice("ABCEHLM"), *pieces, rng.choice("ABCD")])
    body = rng.choice("45679") + text(rng, 8)
    check = 11 - sum(int(c) * w for c, w in zip(body, range(10, 1, -1), strict=True)) % 11
    if check == 10:
        return britain(rng)
    return f"{body[:3]} {body[3:6]} {body[6:]}{check % 11}"


def america(rng: Random) -> str:
    return f"{rng.randrange(1, 660):03d}-{rng.randrange(1, 100):02d}-{rng.randrange(1, 10000):04d}"


IDENTITIES = (spain, italy, france, germany, poland, brazil, china, finland, sweden, india, britain, america)
