"""The process that keeps tables of a tenant in memory, what it holds, and a query's turn with it."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from services.data.datasets.delta import PARTITION
from services.data.datasets.domain import Location
from services.data.metering.service import Progress
from services.data.schema import ColumnType
from services.kit.auth import Scope
from services.kit.child import Json
from services.kit.errors import Failure
from services.kit.process import Limits
from services.kit.resident import Resident
from services.kit.spent import Spent

_WORK = "services.data.datasets.hot_work"
ANY = 2**62  # bytes: as many as the limits of a query let it have
_BRIEF = Limits(seconds=10.0)
_WIDTHS = {ColumnType.STRING: 16, ColumnType.DATE: 4, ColumnType.BOOL: 0}  # bytes at least; 8 of others


@dataclass(frozen=True)
class Wanted:
    """Columns of a version: the first part of its key tells its data set, `bytes` is what they take at least."""

    key: str
    columns: frozenset[str]
    bytes: int


def wanted_of(scope: Scope, location: Location, names: frozenset[str] | None) -> Wanted:
    """What of a version has to be in memory for a query that has these names; all for None."""
    version = location.version
    chosen = [column for column in version.columns if names is None or column.name in names] or version.columns[:1]
    schema = [(column.name, column.type.value) for column in version.columns]
    divided = location.files[:1] and location.files[0].partition is not None
    content = orjson.dumps([schema, [(file.digest, file.partition) for file in location.files]])
    width = sum(_WIDTHS.get(column.type, 8) for column in chosen)
    return Wanted(
        f"{mark_of(scope, version.data_set)}_{hashlib.sha256(content).hexdigest()[:32]}",
        frozenset(column.name for column in chosen) | ({PARTITION} if divided else set()),
        version.rows * width,
    )


def mark_of(scope: Scope, data_set: str) -> str:
    """The first part of the keys of a data set's tables."""
    return hashlib.sha256(orjson.dumps([scope.project, data_set])).hexdigest()[:16]


@dataclass
class Seat:
    """The process of a tenant, and what it holds."""

    child: Resident = field(default_factory=Resident)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    tables: dict[str, tuple[frozenset[str], int]] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)  # marks of data sets
    last: float = 0.0

    @property
    def bytes(self) -> int:
        """Of its tables."""
        return sum(size for _, size in self.tables.values())

    def holds(self, wanted: Wanted) -> bool:
        """Whether it need not open files for this."""
        return wanted.key in self.tables and self.tables[wanted.key][0] >= wanted.columns

    def learn(self, held: Mapping[str, tuple[Sequence[str], int]]) -> None:
        """Notes what the process says that it holds."""
        self.tables = {key: (frozenset(columns), size) for key, (columns, size) in held.items()}

    async def end(self) -> None:
        """Ends the process; another begins with the next query."""
        self.tables = {}
        await self.child.end()


class Turn:
    """One query's use of the process of its tenant."""

    def __init__(self, seat: Seat, wanted: Mapping[str, Wanted], room: int, most: int, pinned: bool) -> None:
        self._seat, self.wanted, self._room, self._most, self._pinned = seat, wanted, room, most, pinned
        # Tables that are in memory, by the names that the query has for them.
        self.held = frozenset(name for name, one in wanted.items() if seat.holds(one))
        # Whether the answer was from memory, and if not, the bytes that did not fit: ANY where loading them failed.
        self.hot, self.needed = False, 0

    @property
    def all_held(self) -> bool:
        """Whether no file is needed."""
        return self.held == self.wanted.keys()

    async def run(
        self, module: str, request: Json, limits: Limits | None, progress: Progress, spent: Spent | None
    ) -> Json:
        """As `process.run`, of work that tells no progress."""
        limits = limits or Limits()
        limits = replace(limits, memory_mib=limits.memory_mib + self._most // 2**20)
        hot = {
            name: {"key": one.key, "columns": sorted(one.columns), "view": request["hot"][name]}
            for name, one in self.wanted.items()
        }
        asked, loading = {**request, "hot": hot, "room": self._room, "drop": []}, not self.all_held

        async def loaded(_: Any) -> None:
            nonlocal loading
            loading = False

        try:
            found = await self._seat.child.run(_WORK, asked, limits, loaded, spent)
        except Failure:
            self.needed = ANY if loading else 0
            await look(self._seat)  # what it loaded before it failed, it holds
            raise
        self._seat.learn(found["held"])
        if self._pinned and not found["hot"]:
            # There was room for the page before, so this one is answered from memory that is free again at once.
            async with lone() as other:
                found = await other.child.run(_WORK, {**asked, "room": ANY}, limits, progress, spent)
        self.hot, self.needed = bool(found["hot"]), int(found.get("needed", 0))
        return found


async def look(seat: Seat, drop: Sequence[str] = ()) -> None:
    """Learns what a process holds, once it has forgotten some tables; one that does not answer ends."""
    if not seat.child.pid:
        await seat.end()
        return
    try:
        seat.learn((await seat.child.run(_WORK, {"drop": list(drop)}, _BRIEF))["held"])
    except Failure:
        await seat.end()


@contextlib.asynccontextmanager
async def lone() -> AsyncIterator[Seat]:
    """A process for one query."""
    seat = Seat()
    try:
        yield seat
    finally:
        await asyncio.shield(seat.end())
