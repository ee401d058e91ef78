"""Looks for repairs: a child learns from refused records, then version, repair and operation end in one transaction."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from services.data.database import schema
from services.data.datasets.domain import EXPECTED
from services.data.datasets.service import DataSets
from services.data.extractions.domain import Extraction
from services.data.extractions.service import Extractions
from services.data.metering.service import Metering
from services.data.reading.kinds import RuleDefinition, compiled_to_json, to_json
from services.data.repairs import domain
from services.data.repairs.domain import Found, Policy, Repair, found_from_json
from services.data.repairs.store import RepairStore
from services.data.rules.service import Repaired, Rules
from services.kit.auth import Scope
from services.kit.errors import Code, Failure
from services.kit.leased_work import LeasedWork, Spawn
from services.kit.process import Limits

log = logging.getLogger(__name__)
_LOOK = 2.0  # seconds between two looks
_WORK = "services.data.repairs.work"
_RECORDS, _PAGE = 2_000, 500  # refused records that are looked at
_BYTES = 4 * 2**20  # of them
_KNOWN = 500  # rows that say what values columns have


class RepairRunner(LeasedWork[Repair]):
    """Looks for one repair at a time."""

    def __init__(
        self,
        store: RepairStore,
        rules: Rules,
        extractions: Extractions,
        data_sets: DataSets,
        metering: Metering,
        now: Callable[[], datetime],
        spawn: Spawn,
        limits: Limits,
    ) -> None:
        super().__init__(schema, spawn, at_once=1)
        self._store, self._rules, self._extractions, self._data_sets = store, rules, extractions, data_sets
        self._metering, self._now, self._limits = metering, now, limits

    async def watch(self) -> None:
        """Takes up, for ever, repairs that the end of an extraction has asked for."""
        while True:
            await asyncio.sleep(_LOOK)
            try:
                await self.resume()
            except Failure as failure:
                log.warning("repairs cannot be looked for: %s", failure)

    async def _unfinished(self) -> Sequence[tuple[Scope, Repair]]:
        return await self._store.unfinished()

    async def _give_up(self, scope: Scope, repair: Repair, failure: Failure | None) -> None:
        reason = failure.detail if failure else ""
        after = domain.given_up(repair, reason, self._now())
        await self._store.end(scope, repair, lambda connection: after, failure)

    async def _do(self, scope: Scope, repair: Repair) -> None:
        view = await self._rules.get(scope, repair.rule, repair.version)
        health = await self._store.health(scope, repair.rule)
        lacking = health.lacking if health.version == repair.version else ()
        found = await self._look(scope, repair, view.version.definition, lacking)
        required = frozenset(column.name for column in view.version.definition.columns if column.required)
        activate = health.policy is Policy.ACTIVATE and found.is_sure(required | frozenset(lacking))
        definition = found.definition
        compiled = await self._rules.compiled_for(scope, repair.rule, definition) if definition else None
        self._settle(repair.operation)

        def decide(connection: Connection) -> Repair:
            if definition is None or compiled is None:
                return domain.ended(repair, found, 0, False, self._now())
            made = Repaired(definition, compiled)
            after = self._rules.repaired(connection, scope, repair.rule, repair.version, made, activate).rule
            active = after.active_version == after.latest_version
            return domain.ended(repair, found, after.latest_version, active, self._now())

        await self._store.end(scope, repair, decide)

    async def _look(self, scope: Scope, repair: Repair, definition: RuleDefinition, lacking: Sequence[str]) -> Found:
        if not repair.extraction:
            return Found(None, 0, reason="the version has refused no record")
        run = await self._extractions.get(scope, repair.extraction)
        if lacking:
            return await self._look_elsewhere(scope, repair, definition, lacking, run)
        await self._operations.progress(scope, repair.operation, 0.1, "reading", "what the rule refuses")
        records = await self._refused(scope, run.data_set, run.data_set_version)
        request = {
            "definition": to_json(definition),
            "records": records,
            "values": await self._values(scope, run.data_set, run.data_set_version),
        }
        await self._operations.progress(scope, repair.operation, 0.3, "learning", f"{len(records)} refused records")
        return found_from_json(await self._metering.run(scope, repair.operation, _WORK, request, self._limits))

    async def _look_elsewhere(
        self, scope: Scope, repair: Repair, definition: RuleDefinition, lacking: Sequence[str], run: Extraction
    ) -> Found:
        """Looks for columns in what the run has read, again."""
        text = f"what {run.source} has without {', '.join(lacking)}"
        await self._operations.progress(scope, repair.operation, 0.1, "reading", text[:500])
        async with self._extractions.again(scope, run) as (task, found):
            request = {
                "definition": to_json(definition),
                "lacking": list(lacking),
                "values": await self._values(scope, run.data_set, 0),
                "source": found.source,
                "cursor": found.cursor,
                "place": found.place.to_json(),
                "compiled": compiled_to_json(task.compiled),
                "seconds": self._limits.seconds,
            }
            return found_from_json(await self._metering.run(scope, repair.operation, _WORK, request, self._limits))

    async def _refused(self, scope: Scope, data_set: str, version: int) -> list[str]:
        records, size, token = list[str](), 0, ""
        while len(records) < _RECORDS and size < _BYTES:
            page = await self._data_sets.quarantine(scope, data_set, version, _PAGE, token)
            refused = [row for row in page.items if not str(row["reason"]).startswith(EXPECTED)]
            records += [str(row["record"]) for row in refused]
            size = sum(map(len, records))
            token = page.next_token
            if not token:
                break
        return records

    async def _values(self, scope: Scope, data_set: str, version: int) -> dict[str, list[Any]]:
        """Values that the columns had in rows that were accepted."""
        try:
            page = await self._data_sets.rows(scope, data_set, version, (), _KNOWN, "")
        except Failure as failure:
            if failure.code is not Code.NOT_FOUND:
                raise
            return {}
        names = page.items[0].keys() if page.items else ()
        return {name: [row[name] for row in page.items] for name in names}
