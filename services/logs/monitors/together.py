"""Predictions of one version that are a row of the database together: a row for each cost more than all else."""

import struct
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Container, Iterator, Sequence, Set
from itertools import accumulate
from typing import NamedTuple
from uuid import UUID

from services.kit.auth import Scope
from services.logs.monitors.domain import Prediction

_LEAST, _MOST = 16, 64  # in one row: whoever asks for one of them reads them all
_SPAN = 1_000  # milliseconds from the first id of a row to its last: one is looked for in rows of so long before it
_CLOSE = 100  # milliseconds: ids that are looked for as one, as rows that have none of them between are few
_Found = dict[bytes, bytes]
Place = tuple[Scope, str]  # whose, and of which model


class Together(NamedTuple):
    """Some with ids of one second, in the order of their ids."""

    version: int
    ids: Sequence[bytes]  # UUIDs
    scores: Sequence[bytes]

    @classmethod
    def of(cls, version: int, found: _Found) -> "Together":
        """Scores by id."""
        ids = sorted(found)
        return cls(version, ids, [found[one] for one in ids])

    @property
    def rows(self) -> int:
        """How many rows they had in all."""
        return sum(map(len, self.scores)) // 8

    def without(self, known: Set[bytes]) -> "Together":
        """Those that are not known."""
        if known.isdisjoint(self.ids):
            return self
        pairs = zip(self.ids, self.scores, strict=True)
        return self.of(self.version, {one: scores for one, scores in pairs if one not in known})

    def packed(self) -> bytes:
        """Their scores in one piece."""
        return struct.pack(f"<{len(self.scores)}I", *map(len, self.scores)) + b"".join(self.scores)


class Gathering:
    """Predictions as they come, until they are rows."""

    def __init__(self) -> None:
        self._found: dict[tuple[Place, int], _Found] = defaultdict(dict)

    def add(self, place: Place, version: int, ids: bytes, scores: Sequence[bytes]) -> None:
        """Some predictions. Of a request that comes twice the first one stays; without scores it is none."""
        found = self._found[place, version]
        for at, one in enumerate(scores):
            if one:
                found.setdefault(ids[16 * at : 16 * at + 16], one)

    def rows(self) -> tuple[list[tuple[Scope, Prediction]], list[tuple[Place, Together]]]:
        """Those that are too few, and the others."""
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
    """Ids, which are in order, in lists of which each ends so many milliseconds after its first at the latest."""
    start = 0
    while start < len(ids):
        end = bisect_right(ids, moment(ids[start]) + span, start, key=moment)
        yield ids[start:end]
        start = end


def moment(one: bytes) -> int:
    """When an id was made, in milliseconds."""
    return int.from_bytes(one[:6], "big")


def name_of(one: bytes) -> str:
    """A request's id as callers know it."""
    return str(UUID(bytes=one))


def earliest(one: bytes) -> str:
    """What the first id of a row that has an id is not smaller than."""
    digits = f"{max(moment(one) - _SPAN, 0):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def scores_in(ids: bytes, scores: bytes, wanted: Container[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Of a row: ids that are wanted and are in it, with their scores."""
    count = len(ids) // 16
    sizes = struct.unpack_from(f"<{count}I", scores)
    ends = list(accumulate(sizes, initial=4 * count))
    for at in range(count):
        if (one := ids[16 * at : 16 * at + 16]) in wanted:
            yield one, scores[ends[at] : ends[at + 1]]
