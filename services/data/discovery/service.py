"""The use cases of discovery: rules for a source, and joins between sources."""

import contextlib
import tempfile
from collections.abc import Sequence

from services.data.discovery.domain import Discovery, discovery_from_json
from services.data.discovery.joins import Join, Key
from services.data.metering.domain import DEFAULT_BUDGET, CpuBudget, unused
from services.data.metering.service import Metering, waited_for
from services.data.reading.formats import Records
from services.data.reading.kinds import Definition, FilesSource, to_json
from services.data.reading.landed import LandedRecords
from services.data.sources.service import Sources
from services.kit.auth import Principal, Scope
from services.kit.errors import InvalidValue, Violation
from services.kit.process import Limits
from services.kit.turns import Turns

DEFAULT_SECONDS = 60  # of processors; the contract has the same number
_RECORDS, _MOST = 5_000, 20_000
_WORK, _JOINS = "services.data.discovery.work", "services.data.discovery.joins_work"


class Discoveries:
    """Runs as many at a time as there are children for; others wait."""

    def __init__(self, sources: Sources, metering: Metering, limits: Limits, at_once: int = 1, allow: str = "") -> None:
        """`allow`: what the operator lets be reached of what is not on the open internet."""
        self._sources, self._metering, self._limits, self._allow = sources, metering, limits, allow
        self._free = Turns(at_once)

    async def discover(
        self,
        scope: Scope,
        source: str,
        records: int,
        seconds: float,
        budget: CpuBudget = DEFAULT_BUDGET,
        reservation: str = "",
        check_urls: bool = False,
        landed_for: Principal | None = None,
    ) -> Discovery:
        """Rules for the first records of a source, or, for a caller, for those that landed last of it.

        `check_urls`: a few of the URLs that columns hold are fetched.

        Raises not_found, invalid_value, egress_denied, limit_exceeded; failed_precondition where none have landed,
        forbidden.
        """
        _check(records)
        usage = unused("", "discovery", budget, DEFAULT_SECONDS)
        saved, most = await self._sources.get(scope, source), records or _RECORDS
        if landed_for and saved.definition.records is Records.ROWS:
            rule = "must not be set for a table: its columns are asked of its database"
            raise InvalidValue(f"landed {rule}", [Violation("/landed", rule)])
        limits = waited_for(self._limits, seconds)
        async with (
            self._free.turn(scope.tenant),
            self._sources.sample(scope, saved, most, landed_for) as (where, place),
            contextlib.AsyncExitStack() as stack,
        ):
            # Ours and not the child's, which is killed when its time is up or its caller leaves.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="aimass-")) if check_urls else ""
            request = {
                "source": where.to_json() if isinstance(where, LandedRecords) else to_json(where),
                "place": place.to_json(),
                "records": most,
                "allow": self._allow,
                "folder": folder,
            }
            return discovery_from_json(await self._metering.run_once(scope, usage, reservation, _WORK, request, limits))

    async def joins(
        self,
        scope: Scope,
        sources: Sequence[str],
        records: int,
        seconds: float,
        budget: CpuBudget = DEFAULT_BUDGET,
        reservation: str = "",
    ) -> tuple[list[Key], list[Join]]:
        """Keys of the first records of some sources, and what refers to them. Raises as `discover` does."""
        _check(records)
        usage = unused("", "discovery", budget, DEFAULT_SECONDS)
        definitions = {name: (await self._sources.get(scope, name)).definition for name in dict.fromkeys(sources)}
        if text := next((name for name, one in definitions.items() if _is_text(one)), None):
            rule = f"{text} is text, which has no columns"
            raise InvalidValue(rule, [Violation("/sources", rule)])
        limits = waited_for(self._limits, seconds)
        async with self._free.turn(scope.tenant), contextlib.AsyncExitStack() as stack:
            said = {}
            for name, definition in definitions.items():
                place = await stack.enter_async_context(
                    self._sources.place(scope, definition, name, most=records or _RECORDS)
                )
                said[name] = {"source": to_json(definition), "place": place.to_json()}
            request = {"sources": said, "records": records or _RECORDS}
            found = await self._metering.run_once(scope, usage, reservation, _JOINS, request, limits)
        return [Key(**key) for key in found["keys"]], [Join(**join) for join in found["joins"]]


def _check(records: int) -> None:
    if not 0 <= records <= _MOST:
        rule = f"must be between 1 and {_MOST}"
        raise InvalidValue(f"records {rule}", [Violation("/records", rule)])


def _is_text(definition: Definition) -> bool:
    return isinstance(definition, FilesSource) and definition.records is Records.LINES
