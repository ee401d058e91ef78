"""Columns of a rule whose URLs lead to files that are kept: what is said of them, and what they add to rows. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.data.schema import Column, ColumnType
from services.kit.errors import InvalidValue, Violation

_BYTES, _MOST_BYTES = 64 * 2**20, 2**30
_TRIES, _MOST_TRIES = 3, 10
_TYPE = re.compile(r"[a-z]+/(?:\*|[a-z0-9][a-z0-9.+-]*)\Z")
# What each download adds to a row, behind the name of its column.
ADDED = (
    ("state", ColumnType.STRING),
    ("reason", ColumnType.STRING),
    ("digest", ColumnType.STRING),
    ("bytes", ColumnType.INT64),
    ("media_type", ColumnType.STRING),
)


@dataclass(frozen=True)
class Download:
    """One such column. `max_bytes` and `tries`: 0 for the defaults; `media_types`: all if empty."""

    column: str
    max_bytes: int = 0
    media_types: tuple[str, ...] = ()
    tries: int = 0

    @property
    def most(self) -> int:
        """Bytes of a file."""
        return self.max_bytes or _BYTES

    @property
    def attempts(self) -> int:
        """How often a server is asked."""
        return self.tries or _TRIES

    def wants(self, media_type: str) -> bool:
        """Whether files of a type are kept."""
        kinds = {media_type, f"{media_type.partition('/')[0]}/*"}
        return not self.media_types or not kinds.isdisjoint(self.media_types)

    def allows(self, size: int, media_type: str) -> bool:
        """Whether a file of so many bytes and this type is kept."""
        return size <= self.most and self.wants(media_type)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Download":
        """From plain values by the names of the fields, as they are stored and sent."""
        return cls(values["column"], values["max_bytes"], tuple(values["media_types"]), values["tries"])


def columns_of(downloads: Sequence[Download]) -> tuple[Column, ...]:
    """The columns that follow those of the rule."""
    return tuple(Column(f"{one.column}_{name}", kind) for one in downloads for name, kind in ADDED)


def check(downloads: Sequence[Download], columns: Sequence[Column]) -> None:
    """Raises invalid_value for what cannot be downloaded, with its place."""
    texts = {column.name for column in columns if column.type is ColumnType.STRING}
    seen = set[str]()
    for place, one in enumerate(downloads):
        if one.column not in texts:
            _refuse(place, "column", "must be a column of the rule of type string")
        if one.column in seen:
            _refuse(place, "column", "is there twice")
        seen.add(one.column)
        if not 0 <= one.max_bytes <= _MOST_BYTES:
            _refuse(place, "max_bytes", f"must be between 1 and {_MOST_BYTES}")
        if not 0 <= one.tries <= _MOST_TRIES:
            _refuse(place, "tries", f"must be between 1 and {_MOST_TRIES}")
        for kind in one.media_types:
            if not _TYPE.match(kind):
                _refuse(place, "media_types", "must be like image/png or image/*")


def _refuse(place: int, field: str, rule: str) -> None:
    raise InvalidValue(f"downloads.{place}.{field} {rule}", [Violation(f"/definition/downloads/{place}/{field}", rule)])
