"""What one does to have rules found."""

import asyncio
from dataclasses import replace

from services.data.discovery.domain import Discovery, discovery_from_json
from services.data.metering.domain import DEFAULT_BUDGET, CpuBudget, unused
from services.data.metering.service import Metering
from services.data.reading.kinds import to_json
from services.data.sources.service import Sources
from services.kit.auth import Scope
from services.kit.errors import InvalidValue, Violation
from services.kit.process import Limits

DEFAULT_SECONDS = 60  # of processors; the contract has the same number
_RECORDS, _MOST = 5_000, 20_000
_WORK = "services.data.discovery.work"


class Discoveries:
    """Runs as many at a time as there are children for; others wait."""

    def __init__(self, sources: Sources, metering: Metering, limits: Limits, at_once: int = 1) -> None:
        self._sources, self._metering, self._limits = sources, metering, limits
        self._free = asyncio.Semaphore(at_once)

    async def discover(
        self,
        scope: Scope,
        source: str,
        records: int,
        seconds: float,
        budget: CpuBudget = DEFAULT_BUDGET,
        reservation: str = "",
    ) -> Discovery:
        """Rules for the first records of a source. What it used is said by the reservation.

        Raises not_found, invalid_value, egress_denied, limit_exceeded.
        """
        if not 0 <= records <= _MOST:
            rule = f"must be between 1 and {_MOST}"
            raise InvalidValue(f"records {rule}", [Violation("/records", rule)])
        usage = unused("", "discovery", budget, DEFAULT_SECONDS)
        definition = (await self._sources.get(scope, source)).definition
        limits = replace(self._limits, seconds=min(self._limits.seconds, max(seconds - 1, 1)))
        async with self._free, self._sources.place(scope, definition, source, most=records or _RECORDS) as place:
            request = {"source": to_json(definition), "place": place.to_json(), "records": records or _RECORDS}
            return discovery_from_json(await self._metering.run_once(scope, usage, reservation, _WORK, request, limits))
