"""Records of a part of a source that are handed out together. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

KEPT = 8192  # characters of a refused record that are kept


@dataclass
class Page:
    """Records with their numbers, and those that could not be split: number, text, reason."""

    records: Sequence[Any]
    numbers: Sequence[int]
    broken: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.records) + len(self.broken)


@dataclass
class Batch(Page):
    """A page that is made record by record."""

    records: list[Any] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def take(self, number: int, record: Any) -> None:
        """Keeps a record."""
        self.records.append(record)
        self.numbers.append(number)

    def refuse(self, number: int, text: str, reason: str) -> None:
        """Keeps what is no record."""
        self.broken.append((number, text[:KEPT], reason))


class Origins(Sequence[str]):
    """Where the records of a page are: made when they are asked for, which of most records nobody does."""

    def __init__(self, part: str, numbers: Sequence[int]) -> None:
        self._part, self._numbers = part, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> "Origins": ...

    def __getitem__(self, place: int | slice) -> "str | Origins":
        if isinstance(place, int):
            return f"{self._part}:{self._numbers[place]}"
        return Origins(self._part, self._numbers[place])

    def __iter__(self) -> Iterator[str]:
        return (f"{self._part}:{number}" for number in self._numbers)
