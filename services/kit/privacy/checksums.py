"""Algorithms of check digits, with the standard that defines each."""

from collections.abc import Sequence


def luhn(number: str) -> bool:
    """ISO/IEC 7812: payment cards, Swedish personal numbers."""
    total = 0
    for place, char in enumerate(reversed(number)):
        digit = int(char) * (1 + place % 2)
        total += digit - 9 if digit > 9 else digit
    return total % 10 == 0


def weighted(number: str, weights: Sequence[int]) -> int:
    """The sum of a number's digits, each times its weight."""
    return sum(int(char) * weight for char, weight in zip(number, weights, strict=False))


def mod97(text: str) -> bool:
    """ISO 7064 MOD 97-10 as in IBANs: letters count from 10, and the remainder is 1."""
    return int("".join(str(int(char, 36)) for char in text)) % 97 == 1


def mod11_10(number: str) -> bool:
    """ISO 7064 MOD 11,10: German tax numbers."""
    product = 10
    for char in number[:-1]:
        total = (int(char) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(number[-1])


def mod11_2(number: str) -> bool:
    """ISO 7064 MOD 11-2: Chinese resident identity numbers, whose last character may be X."""
    values = [10 if char == "X" else int(char) for char in number]
    return sum(value * pow(2, place, 11) for place, value in enumerate(reversed(values))) % 11 == 1


def _dihedral(left: int, right: int) -> int:
    """The product of two elements of the dihedral group of order ten."""
    if left < 5:
        return (left + right) % 5 if right < 5 else (left + right) % 5 + 5
    return (left - right) % 5 + 5 if right < 5 else (left - right) % 5


_SWAP = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)  # Verhoeff's permutation


def verhoeff(number: str) -> bool:
    """J. Verhoeff, Error Detecting Decimal Codes, 1969: Indian Aadhaar numbers."""
    check = 0
    for place, char in enumerate(reversed(number)):
        digit = int(char)
        for _ in range(place % 8):
            digit = _SWAP[digit]
        check = _dihedral(check, digit)
    return check == 0
