"""Runs advice: a child reads a sample and tries layouts on it, then the operation ends with what it found.

Advice is a row until it has ended, and is made again after a crash.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from services.data.datasets import parquet
from services.data.datasets.domain import DataSetVersion
from services.data.datasets.service import DataSets
from services.data.metering.service import Metering
from services.data.partition_advice.domain import DEFAULT_SECONDS, Advice, Advising
from services.data.partition_advice.store import AdviceStore
from services.data.partition_advice.wire import advice_to_wire
from services.kit.auth import Scope
from services.kit.leased_work import Spawn
from services.kit.open_work import OpenRunner
from services.kit.process import Limits

_ADVISING, _ADVICE, _VERSION = TypeAdapter(Advising), TypeAdapter(Advice), TypeAdapter(DataSetVersion)
_WORK = "services.data.partition_advice.work"


class AdviceRunner(OpenRunner[Advising]):
    """Runs one at a time."""

    def __init__(
        self,
        store: AdviceStore,
        data_sets: DataSets,
        metering: Metering,
        spawn: Spawn,
        limits: Limits,
        memory: tuple[int, int],
    ) -> None:
        """`memory`: MiB that a query may use, and that dividing may."""
        super().__init__(store, spawn, at_once=1)
        self._store, self._data_sets, self._metering, self._limits = store, data_sets, metering, limits
        self._memory = memory

    async def _do(self, scope: Scope, work: Advising) -> None:
        found = await self._data_sets.locate(scope, work.data_set, work.version)
        usage = await self._metering.usage(scope, work.operation)
        seconds = usage.left / 1000 if usage else DEFAULT_SECONDS

        async def tell(message: Mapping[str, Any]) -> None:
            text = f"{message['tried']} layouts of {work.data_set} tried"
            await self._operations.progress(scope, work.operation, message["progress"], "trying", text)

        async with self._data_sets.local(scope, found) as location:
            request = {
                **_ADVISING.dump_python(work, mode="json"),
                "folder": location.uri,
                "files": parquet.to_json(location.files),
                "columns": [(column.name, column.type.value, column.nullable) for column in found.version.columns],
                "layout": _VERSION.dump_python(found.version, mode="json", include={"layout"})["layout"],
                "memory": self._memory,
                "cpu_seconds": seconds,
                "seconds": self._limits.seconds,
            }
            result = await self._metering.run(scope, work.operation, _WORK, request, self._limits, tell)
        await self._store.finish(scope, work.operation, advice_to_wire(work, _ADVICE.validate_python(result)))
