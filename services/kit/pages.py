"""Pages of lists: sizes and tokens."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import orjson

from services.kit.errors import InvalidValue, Violation

T = TypeVar("T")
DEFAULT, MOST = 100, 1000


@dataclass(frozen=True)
class Page(Generic[T]):
    """The items of a page, and the token of the next one, empty on the last page."""

    items: tuple[T, ...]
    next_token: str = ""


def size(requested: int) -> int:
    """How many items a page has: 100 if unset, at most 1,000. Raises invalid_value for a negative number."""
    if requested < 0:
        raise InvalidValue("page_size is negative", [Violation("/page_size", "must not be negative")])
    return min(requested or DEFAULT, MOST)


def token(*last: str | int) -> str:
    """A page token: the position at which a page ended."""
    return base64.urlsafe_b64encode(orjson.dumps(last)).decode().rstrip("=")


def after(page_token: str, *kinds: type[str] | type[int]) -> tuple[str | int, ...] | None:
    """The position at which the previous page ended; None for the first. Raises invalid_value for an unknown token."""
    if not page_token:
        return None
    try:
        last = orjson.loads(base64.urlsafe_b64decode(page_token + "=" * (-len(page_token) % 4)))
    except (binascii.Error, ValueError):
        last = None
    fits = isinstance(last, list) and len(last) == len(kinds)
    if not fits or not all(type(value) is kind for value, kind in zip(last, kinds, strict=True)):
        raise InvalidValue("page_token must be one that was returned", [Violation("/page_token", "is unknown")])
    if any(isinstance(value, int) and abs(value) >= 2**63 for value in last):
        raise InvalidValue("page_token must be one that was returned", [Violation("/page_token", "is unknown")])
    return tuple(last)


def cut(items: Sequence[T], size: int, last: "object") -> Page[T]:
    """A page of `size` items from `size` + 1 that were fetched; `last(item)` returns the position as a tuple."""
    if len(items) <= size:
        return Page(tuple(items))
    kept = tuple(items[:size])
    return Page(kept, token(*last(kept[-1])))  # type: ignore[operator]
