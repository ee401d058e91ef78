"""Answers SELECTs over named versions: checked here, run in a child."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson

from services.data.datasets.domain import NEWEST, DataSetVersion, Location, Which, WrittenFile, types_of
from services.data.datasets.hot import HotTables
from services.data.datasets.hot_seats import Wanted, wanted_of
from services.data.datasets.layouts import Placing
from services.data.datasets.masking import Hidden, view_of
from services.data.datasets.places import Row
from services.data.datasets.pruning import wanted as needed_of
from services.data.datasets.service import DataSets
from services.data.metering.domain import DEFAULT_BUDGET, DEFAULT_QUERY_SECONDS, CpuBudget, unused
from services.data.metering.service import Metering, waited_for
from services.data.schema import Column, ColumnType, quoted
from services.data.sql import CheckedQuery, check_query
from services.data.sql.known import Condition
from services.kit import pages, process
from services.kit.auth import Scope
from services.kit.errors import InvalidValue, Violation
from services.kit.turns import Turns

_NOBODY: Mapping[str, Hidden] = {}
_EVERY: Mapping[str, Collection[int]] = {}
_MOST_ROWS, _ROWS, _WORK = 1000, 100, "services.data.datasets.work"


@dataclass(frozen=True)
class Table:
    """A version by the name that a query uses for it."""

    alias: str
    data_set: str
    which: Which = NEWEST


class Read(NamedTuple):
    """What a query reads of a version; 0 of 0 partitions where it is not divided."""

    table: str
    partitions_read: int
    partitions: int
    files_read: int
    files: int
    in_memory: bool = False


@dataclass(frozen=True)
class Answer:
    """Rows as JSON values; `truncated`: there were more."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    truncated: bool
    reads: tuple[Read, ...] = ()
    next_token: str = ""


class Answered(NamedTuple):
    """What a query that has been answered asked of a version, and what it read for that."""

    version: DataSetVersion
    condition: Condition
    hidden: Hidden
    names: frozenset[str] | None  # of columns, among others; None: all
    read: Read
    bytes_read: int
    bytes: int


class Queries:
    """Runs as many at a time as there are children for; others wait."""

    # Hears of each query that has been answered, and must be quick.
    told: Callable[[Scope, Answered], None] | None = None

    def __init__(
        self,
        data_sets: DataSets,
        metering: Metering,
        limits: process.Limits,
        free: Turns,
        hot: HotTables | None = None,
    ) -> None:
        """`free` has as many turns as there may be children at once; without `hot` every query reads files."""
        self._data_sets, self._metering, self._limits, self._free = data_sets, metering, limits, free
        self._hot = hot or HotTables(0)

    async def ask(
        self,
        scope: Scope,
        sql: str,
        tables: Sequence[Table],
        page: tuple[int, str],
        seconds: float,
        budget: CpuBudget = DEFAULT_BUDGET,
        reservation: str = "",
        hidden: Mapping[str, Hidden] = _NOBODY,
    ) -> Answer:
        """The rows of a page: at most so many, after those of a token, which keeps to the versions of the first page.

        What it used is published under the reservation; `hidden` are columns by data set that are NULL in it.
        Raises invalid_value, sql_not_allowed, query_invalid, not_found, unknown_version, limit_exceeded.
        """
        if page[0] < 0:
            raise InvalidValue("max_rows is negative", [Violation("/max_rows", "must not be negative")])
        usage = unused("", "query", budget, DEFAULT_QUERY_SECONDS)
        start, hot, pinned = _place(sql, tables, page[1])
        plan = await self.plan(scope, sql, pinned, hidden)
        limits = waited_for(self._limits, seconds)
        request = {"sql": plan.text, "start": start, "max_rows": min(page[0] or _ROWS, _MOST_ROWS)}
        async with self._free.turn(scope.tenant), self._hot.turn(scope.tenant, plan.kept(scope), hot) as turn:
            run = turn.run if turn else process.run
            read = replace(plan, read={}) if turn and turn.all_held else plan
            async with self.here(scope, read, whole=bool(turn)) as request["tables"]:
                request["hot"] = _views(plan, turn.wanted) if turn else {}
                found = await self._metering.run_once(scope, usage, reservation, _WORK, request, limits, None, run)
        if not start:  # the first page stands for the query
            self.tell(scope, plan)
        columns = tuple(Column(name, ColumnType(kind)) for name, kind in found["columns"])
        rows, more, hot = tuple(found["rows"]), bool(found["truncated"]), bool(turn and turn.hot)
        token = pages.token(_mark(sql, tables), start + len(rows), int(hot), *plan.numbers) if rows and more else ""
        reads = tuple(
            read._replace(in_memory=turn is not None and hot and read.table in turn.held) for read in plan.reads
        )
        return Answer(columns, rows, more, reads, token)

    async def forget(self, scope: Scope, data_set: str) -> None:
        """Keeps nothing of a data set in memory."""
        await self._hot.drop(scope, data_set)

    async def plan(
        self, scope: Scope, sql: str, tables: Sequence[Table], hidden: Mapping[str, Hidden] = _NOBODY
    ) -> "Plan":
        """A query, checked, with the versions that it reads. Raises as `ask`."""
        names = [table.alias or table.data_set for table in tables]
        if twice := {name for name in names if names.count(name) > 1}:
            raise InvalidValue(f"two tables are called {min(twice)}", [Violation("/tables", "names must differ")])
        checked = await asyncio.to_thread(check_query, sql, names)
        read, numbers, wanted = {}, [], {}
        for name, table in zip(names, tables, strict=True):
            number = await self._data_sets.number(scope, table.data_set, table.which)
            location = await self._data_sets.locate(scope, table.data_set, number)
            numbers.append(location.version.version)
            if name in checked.tables:
                read[name] = location
        for name, location in read.items():
            hide = hidden.get(location.version.data_set, ())
            wanted[name] = await asyncio.to_thread(pruned, location, checked.conditions[name], hide)
        return Plan(checked, read, wanted, tuple(numbers), hidden)

    def tell(self, scope: Scope, plan: "Plan") -> None:
        """Tells who hears of queries that one has been answered."""
        if self.told:
            for answered in plan.answered():
                self.told(scope, answered)

    @contextlib.asynccontextmanager
    async def here(self, scope: Scope, plan: "Plan", whole: bool = False) -> AsyncIterator[dict[str, Any]]:
        """The versions of a plan on this machine, as a child is told of them, while the context lasts.

        `whole`: with all their files, not those only that the query reads.
        """
        async with contextlib.AsyncExitStack() as stack:
            local = {}
            for name, found in plan.read.items():
                needed = found if whole else _needed(found, plan.wanted[name])
                local[name] = await stack.enter_async_context(self._data_sets.local(scope, needed))
            yield table_requests(local, plan.hidden, plan.wanted)


@dataclass(frozen=True)
class Plan:
    """A checked query: what the engine gets, the versions and partitions that it reads, the number of each version."""

    checked: CheckedQuery
    read: Mapping[str, Location]
    wanted: Mapping[str, frozenset[int]]
    numbers: tuple[int, ...]
    hidden: Mapping[str, Hidden]

    def kept(self, scope: Scope) -> dict[str, Wanted]:
        """What of each version would be in memory, if it is."""
        return {name: wanted_of(scope, found, self.checked.names) for name, found in self.read.items()}

    @property
    def text(self) -> str:
        """What the engine gets."""
        return self.checked.text

    @property
    def reads(self) -> tuple[Read, ...]:
        """What is read of each version."""
        return tuple(_read(name, found, self.wanted[name]) for name, found in self.read.items())

    def answered(self) -> Iterator[Answered]:
        """What it asked of each version."""
        for read, (name, found) in zip(self.reads, self.read.items(), strict=True):
            needed, every = (sum(f.bytes for f in files) for files in (_files(found, self.wanted[name]), found.files))
            condition, hide = self.checked.conditions[name], self.hidden.get(found.version.data_set, ())
            yield Answered(found.version, condition, hide, self.checked.names, read, needed, every)


def _views(plan: Plan, kept: Mapping[str, Wanted]) -> dict[str, str]:
    """What the query sees of tables in memory."""
    found = {}
    for name, location in plan.read.items():
        version, table = location.version, f"__hot_{kept[name].key}"
        columns = [column for column in version.columns if column.name in kept[name].columns]
        partitions = plan.wanted[name] if partitions_of(location) else None
        view = view_of(columns, plan.hidden.get(version.data_set, ()), table, partitions)
        chosen = ", ".join(quoted(column.name) for column in columns)
        found[name] = view or f"SELECT {chosen} FROM {quoted(table)}"
    return found


def _mark(sql: str, tables: Sequence[Table]) -> str:
    """What tells a query from others."""
    text = orjson.dumps([sql, [(table.alias, table.data_set) for table in tables]])
    return hashlib.sha256(text).hexdigest()[:16]


def _place(sql: str, tables: Sequence[Table], page_token: str) -> tuple[int, bool | None, Sequence[Table]]:
    """How many rows come before a page, whether they were from memory, and the tables at the versions of the first.

    Raises invalid_value.
    """
    if (place := pages.after(page_token, str, int, int, *[int for _ in tables])) is None:
        return 0, None, tables
    mark, start, hot, *numbers = place
    if mark != _mark(sql, tables) or int(start) < 1 or any(int(number) < 1 for number in numbers):
        raise InvalidValue("page_token is of another query", [Violation("/page_token", "is of another query")])
    pinned = [Which(int(number)) for number in numbers]
    return int(start), bool(hot), [replace(table, which=which) for table, which in zip(tables, pinned, strict=True)]


def pruned(found: Location, condition: Condition, hidden: Hidden) -> frozenset[int]:
    """The partitions with rows of a version that can have rows for which a condition holds."""
    there, layout, types = partitions_of(found), found.version.layout, types_of(found.version)
    # A field that the version has not is a column of another table.
    if not there or layout is None or not set(layout.fields) <= types.keys():
        return there
    return there & needed_of(condition, Placing(layout, types), hidden)


def _files(found: Location, wanted: frozenset[int]) -> tuple[WrittenFile, ...]:
    return tuple(file for file in found.files if file.partition is None or file.partition in wanted)


def _needed(found: Location, wanted: frozenset[int]) -> Location:
    """With the files that are read, so that no others are brought here; one at least, that there are partitions."""
    return replace(found, files=_files(found, wanted) or found.files[:1])


def _read(name: str, found: Location, wanted: frozenset[int]) -> Read:
    return Read(name, len(wanted), len(partitions_of(found)), len(_files(found, wanted)), len(found.files))


def table_requests(
    local: Mapping[str, Location],
    hidden: Mapping[str, Hidden] = _NOBODY,
    partitions: Mapping[str, Collection[int]] = _EVERY,
) -> dict[str, Any]:
    """Versions that are on this machine, as a child is told of them.

    `hidden` has columns by data set, `partitions` those that are read of a divided version, by name; else all are.
    """
    return {
        name: {
            "uri": found.uri,
            "version": found.delta_version,
            "view": view_of(
                found.version.columns,
                hidden.get(found.version.data_set, ()),
                f"__masked_{name}",
                partitions.get(name, there) if (there := partitions_of(found)) else None,
            ),
        }
        for name, found in local.items()
    }


def partitions_of(found: Location) -> frozenset[int]:
    """The partitions that have rows; none where the version is not divided."""
    return frozenset(file.partition for file in found.files if file.partition is not None)
