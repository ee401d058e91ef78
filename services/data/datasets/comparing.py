"""What differs between two versions: their columns, and their rows by a key."""

import contextlib
from collections.abc import Sequence
from typing import Any

from services.data.datasets.differences import Diff, Kind, RowDiff, columns_diff
from services.data.datasets.domain import DataSetVersion
from services.data.datasets.masking import NOTHING, Hidden
from services.data.datasets.queries import table_requests
from services.data.datasets.service import DataSets
from services.data.metering.domain import DEFAULT_BUDGET, DEFAULT_QUERY_SECONDS, CpuBudget, unused
from services.data.metering.service import Metering, waited_for
from services.data.schema import ColumnType
from services.kit import pages, process
from services.kit.auth import Scope
from services.kit.errors import Code, FailedPrecondition, Failure, InvalidValue, Violation
from services.kit.turns import Turns

_WORK = "services.data.datasets.compare_work"


class Comparisons:
    """Runs as many at a time as there are children for; others wait."""

    def __init__(self, data_sets: DataSets, metering: Metering, limits: process.Limits, free: Turns) -> None:
        """`free` is shared with the queries: both are of the same children."""
        self._data_sets, self._metering, self._limits, self._free = data_sets, metering, limits, free

    async def diff(
        self,
        scope: Scope,
        data_set: str,
        versions: tuple[int, int],
        key: Sequence[str],
        page: tuple[int, str],
        seconds: float,
        budget: CpuBudget = DEFAULT_BUDGET,
        reservation: str = "",
        hidden: Hidden = NOTHING,
        with_parent: bool = False,
    ) -> Diff:
        """What differs from the first of two versions to the second, where hidden columns are NULL.

        0 stands for the version before the second, and for the newest. `with_parent`: the first one is of the data set
        that this is a branch of, 0 the one that the branch had the rows of.

        Raises not_found, unknown_version, invalid_value for a wrong key or page, failed_precondition for a key that is
        not unique or NULL, limit_exceeded.
        """
        usage = unused("", "query", budget, DEFAULT_QUERY_SECONDS)
        size, (base, number, start) = pages.size(page[0]), _place(versions, page[1])
        after = await self._data_sets.locate(scope, data_set, number)
        name, base = await self._base(scope, data_set, base) if with_parent else (data_set, base)
        base = base or after.version.version - 1
        if not base:
            raise Failure(Code.UNKNOWN_VERSION, f"{data_set} has no version before its first")
        before = await self._data_sets.locate(scope, name, base)
        columns = _compared(before.version, after.version, key)
        limits = waited_for(self._limits, seconds)
        async with self._free.turn(scope.tenant), contextlib.AsyncExitStack() as stack:
            local = {
                name: await stack.enter_async_context(self._data_sets.local(scope, location))
                for name, location in (("before", before), ("after", after))
            }
            request = {
                "data_set": data_set,
                "tables": table_requests(local, {data_set: hidden, name: hidden}),
                "versions": {"before": base, "after": after.version.version},
                "key": list(dict.fromkeys(key)),
                "compared": columns,
                "before": _request_columns(before.version),
                "after": _request_columns(after.version),
                "start": start,
                "count": size,
            }
            found = await self._metering.run_once(scope, usage, reservation, _WORK, request, limits)
        return _diff(before.version, after.version, found, start)

    async def _base(self, scope: Scope, data_set: str, base: int) -> tuple[str, int]:
        """What a branch is compared with. Raises failed_precondition for what is none."""
        found = await self._data_sets.get(scope, data_set)
        if not found.branch_of:
            raise FailedPrecondition(f"{data_set} is no branch")
        return found.branch_of, base or found.branch_version


def _request_columns(found: DataSetVersion) -> list[tuple[str, str]]:
    return [(column.name, column.type.value) for column in found.columns]


def _diff(before: DataSetVersion, after: DataSetVersion, found: dict[str, Any], start: int) -> Diff:
    counts = {kind: int(found["counts"][kind]) for kind in Kind}
    rows = tuple(RowDiff(Kind(r["kind"]), r["before"], r["after"], tuple(r["columns"])) for r in found["rows"])
    end = start + len(rows)
    token = pages.token(before.version, after.version, end) if rows and end < sum(counts.values()) else ""
    columns = columns_diff(before.columns, after.columns)
    return Diff(before, after, counts, found["changed_columns"], columns, rows, token)


def _place(versions: tuple[int, int], page_token: str) -> tuple[int, int, int]:
    """The two versions and the row that a page begins at. Raises invalid_value."""
    if (place := pages.after(page_token, int, int, int)) is None:
        return (*versions, 0)
    base, number, start = (int(part) for part in place)
    if base < 1 or number < 1 or start < 0:
        raise InvalidValue("page_token must be one that was returned", [Violation("/page_token", "is unknown")])
    if any(asked not in (0, kept) for asked, kept in zip(versions, (base, number), strict=True)):
        raise InvalidValue("page_token is of other versions", [Violation("/page_token", "is of other versions")])
    return base, number, start


def _compared(before: DataSetVersion, after: DataSetVersion, key: Sequence[str]) -> list[str]:
    """The columns that both versions have with the same type, without those of the key. Raises invalid_value."""
    old = {column.name: column.type for column in before.columns}
    both = [column for column in after.columns if old.get(column.name) is column.type]
    known = {column.name: column.type for column in both}
    for index, name in enumerate(key):
        at = f"/key/{index}"
        if name not in known:
            text = f"{name[:60]} is not a column of one type in both versions of {after.data_set}"
            raise InvalidValue(text, [Violation(at, "must be a column of both versions, with the same type")])
        if known[name] is ColumnType.DOUBLE:
            raise InvalidValue(
                f"the column {name} holds double, which cannot be a key",
                [Violation(at, "must not be a column of doubles")],
            )
    return [column.name for column in both if column.name not in key]
