"""Predictions of one version that share a row of the database: a row for each cost more than all else."""

import struct
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Container, Iterator, Sequence, Set
from itertools import accumulate
from typing import NamedTuple
from uuid import UUID

from services.kit.auth import Scope
from services.logs.monitors.domain import Prediction

_LEAST, _MOST = 16, 64  # predictions in one row, all of which are read to find one
_SPAN = 1_000  # milliseconds between the first and the last id of a row, at most: a look-up goes back so far
_CLOSE = 100  # milliseconds: ids as near as this are looked up together, as few other rows lie between
_Found = dict[bytes, bytes]
Place = tuple[Scope, str]  # scope and model


class Together(NamedTuple):
    """Predictions with ids of one second, in the order of their ids."""

    version: int
    ids: Sequence[bytes]  # UUIDs
    scores: Sequence[bytes]

    @classmethod
    def of(cls, version: int, found: _Found) -> "Together":
        """From scores by id."""
        ids = sorted(found)
        return cls(version, ids, [found[one] for one in ids])

    @property
    def rows(self) -> int:
        """The number of rows that they have scores for."""
        return sum(map(len, self.scores)) // 8

    def without(self, known: Set[bytes]) -> "Together":
        """Those whose ids are not `known`."""
        if known.isdisjoint(self.ids):
            return self
        pairs = zip(self.ids, self.scores, strict=True)
        return self.of(self.version, {one: scores for one, scores in pairs if one not in known})

    def packed(self) -> bytes:
        """Their scores, serialised."""
        return struct.pack(f"<{len(self.scores)}I", *map(len, self.scores)) + b"".join(self.scores)


class Gathering:
    """Collects predictions, and groups them into rows."""

    def __init__(self) -> None:
        self._found: dict[tuple[Place, int], _Found] = defaultdict(dict)

    def add(self, place: Place, version: int, ids: bytes, scores: Sequence[bytes]) -> None:
        """Adds predictions. Of a request that comes twice the first one stays; those without scores are left out."""
        found = self._found[place, version]
        for at, one in enumerate(scores):
            if one:
                found.setdefault(ids[16 * at : 16 * at + 16], one)

    def rows(self) -> tuple[list[tuple[Scope, Prediction]], list[tuple[Place, Together]]]:
        """Single predictions, where too few are near each other, and groups."""
        few, many = list[tuple[Scope, Prediction]](), list[tuple[Place, Together]]()
        for (place, version), found in self._found.items():
            (scope, model), whole = place, Together.of(version, found)
            for ids in near(whole.ids, _SPAN):
                if len(ids) < _LEAST:
                    few += [(scope, Prediction(model, name_of(one), version, found[one])) for one in ids]
                    continue
                for at in range(0, len(ids), _MOST):
                    part = ids[at : at + _MOST]
                    many.append((place, Together(version, part, [found[one] for one in part])))
        return few, many


def near(ids: Sequence[bytes], span: int = _CLOSE) -> Iterator[Sequence[bytes]]:
    """Splits sorted ids into lists whose ids lie within `span` milliseconds."""
    start = 0
    while start < len(ids):
        end = bisect_right(ids, moment(ids[start]) + span, start, key=moment)
        yield ids[start:end]
        start = end


def moment(one: bytes) -> int:
    """The time of an id in milliseconds."""
    return int.from_bytes(one[:6], "big")


def name_of(one: bytes) -> str:
    """An id as a UUID's text."""
    return str(UUID(bytes=one))


def earliest(one: bytes) -> str:
    """A lower bound of the first id of a row that has this id."""
    digits = f"{max(moment(one) - _SPAN, 0):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def scores_in(ids: bytes, scores: bytes, wanted: Container[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The wanted ids of a row, with their scores."""
    count = len(ids) // 16
    sizes = struct.unpack_from(f"<{count}I", scores)
    ends = list(accumulate(sizes, initial=4 * count))
    for at in range(count):
        if (one := ids[16 * at : 16 * at + 16]) in wanted:
            yield one, scores[ends[at] : ends[at + 1]]
