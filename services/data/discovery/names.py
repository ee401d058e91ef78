"""Names of what is found: each is there once. Pure."""

from collections.abc import Container
from itertools import chain, count


def unused(name: str, taken: Container[str]) -> str:
    """The name, or with the first number from 2 on that makes it another one than those taken, in lower case."""
    numbered = (f"{name}_{number}" for number in count(2))
    return next(one for one in chain((name,), numbered) if one.lower() not in taken)
