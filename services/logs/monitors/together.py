"""Predictions of one version that are a row of the database together: a row for each cost more than all else."""

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import accumulate
from typing import NamedTuple
from uuid import UUID

from services.kit.auth import Scope
from services.logs.monitors.domain import Prediction
from services.logs.tables import minute

_LEAST, _MOST = 16, 64  # in one row: whoever asks for one of them reads them all
_Found = dict[bytes, bytes]
Place = tuple[Scope, str]  # whose, and of which model


class Together(NamedTuple):
    """Some with ids of one minute, in the order of their ids."""

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
        self._found: dict[tuple[Place, int, int], _Found] = defaultdict(dict)

    def add(self, place: Place, version: int, ids: bytes, scores: Sequence[bytes]) -> None:
        """Some with ids of one minute. Of a request that comes twice the first one stays; without scores it is none."""
        found = self._found[place, version, minute(ids[:6])]
        for at, one in enumerate(scores):
            if one:
                found.setdefault(ids[16 * at : 16 * at + 16], one)

    def rows(self) -> tuple[list[tuple[Scope, Prediction]], list[tuple[Place, Together]]]:
        """Those that are too few, and the others."""
        few, many = list[tuple[Scope, Prediction]](), list[tuple[Place, Together]]()
        for (place, version, _), found in self._found.items():
            whole = Together.of(version, found)
            if len(found) < _LEAST:
                scope, model = place
                pairs = zip(whole.ids, whole.scores, strict=True)
                few += [(scope, Prediction(model, name_of(one), version, scores)) for one, scores in pairs]
                continue
            for at in range(0, len(found), _MOST):
                part = slice(at, at + _MOST)
                many.append((place, Together(version, whole.ids[part], whole.scores[part])))
        return few, many


def name_of(one: bytes) -> str:
    """A request's id as callers know it."""
    return str(UUID(bytes=one))


def earliest(name: str) -> str:
    """What the smallest id of a name's minute is not smaller than."""
    return _dashed(minute(bytes.fromhex(name[:8] + name[9:13])) * 60_000)


def _dashed(milliseconds: int) -> str:
    digits = f"{milliseconds:012x}"
    return f"{digits[:8]}-{digits[8:]}"


def scores_in(ids: bytes, scores: bytes, wanted: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Of a row: ids that are wanted and are in it, with their scores."""
    count = len(ids) // 16
    places = {ids[16 * at : 16 * at + 16]: at for at in range(count)}
    sizes = struct.unpack_from(f"<{count}I", scores)
    ends = list(accumulate(sizes, initial=4 * count))
    for one in wanted:
        if (at := places.get(one)) is not None:
            yield one, scores[ends[at] : ends[at + 1]]
