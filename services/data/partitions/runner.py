"""Divides data sets otherwise: a child writes the rows anew, then version and operation end in one transaction.

A version that comes in between is not undone: only the rows that it added are divided before the next attempt. A
rewrite is a row until it has ended; after a crash what it had handed to `commit` is committed, else it is done again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from services.data.datasets import parquet
from services.data.datasets.divider import WORK, request_of
from services.data.datasets.domain import DataSetVersion, LineageNode, NewVersion, WrittenFile
from services.data.datasets.layouts import Layout
from services.data.datasets.service import DataSets
from services.data.metering.service import Metering
from services.data.partitions.domain import Rewrite
from services.data.partitions.store import RewriteStore
from services.kit.auth import Scope
from services.kit.errors import Code, Failure
from services.kit.leased_work import Spawn
from services.kit.open_work import OpenRunner
from services.kit.process import Limits

_ROUNDS = 20  # versions that may come in between


@dataclass
class _Sofar:
    """The files of the data set that are divided, and the files of their rows."""

    done: tuple[WrittenFile, ...] = ()
    made: tuple[WrittenFile, ...] = ()
    rounds: int = 0


class RewriteRunner(OpenRunner[Rewrite]):
    """Runs one at a time."""

    def __init__(
        self,
        store: RewriteStore,
        data_sets: DataSets,
        metering: Metering,
        spawn: Spawn,
        limits: Limits,
    ) -> None:
        super().__init__(store, spawn, at_once=1)
        self._store, self._data_sets, self._metering, self._limits = store, data_sets, metering, limits

    async def _do(self, scope: Scope, rewrite: Rewrite) -> None:
        if await self._store.lay_out(scope, rewrite):
            return
        new, sofar = await self._data_sets.recover(scope, rewrite.data_set, rewrite.operation), _Sofar()
        while True:
            try:
                new = new or await self._divided(scope, rewrite, sofar)
                await self._commit(scope, rewrite, new)
                return
            except Failure as failure:
                if failure.code is not Code.CONFLICT or sofar.rounds >= _ROUNDS:
                    raise
            kept = await self._data_sets.recover(scope, rewrite.data_set, rewrite.operation)
            if new and kept and kept.rewrites == new.rewrites and sofar.made:
                sofar.made = kept.files  # where they were brought to
            new = None

    async def _discard(self, scope: Scope, rewrite: Rewrite) -> None:
        await self._data_sets.discard(scope, rewrite.data_set, rewrite.operation)

    async def _commit(self, scope: Scope, rewrite: Rewrite, new: NewVersion) -> None:
        def effects(connection: Connection, made: DataSetVersion) -> None:
            self._store.end_as(connection, scope, rewrite)

        await self._data_sets.commit(scope, new, effects)

    async def _divided(self, scope: Scope, rewrite: Rewrite, sofar: _Sofar) -> NewVersion:
        """The rows of the newest version in other files."""
        found, files = await self._data_sets.whole(scope, rewrite.data_set, 0)
        if not sofar.done or files[: len(sofar.done)] != sofar.done:
            await self._data_sets.prepare(scope, rewrite.data_set, rewrite.operation)
            sofar.done, sofar.made = (), ()
        rest = files[len(sofar.done) :]
        if rewrite.layout is None:
            sofar.made = tuple(replace(file, partition=None) for file in files)
        elif rest:
            sofar.made = (*sofar.made, *await self._work(scope, rewrite, rewrite.layout, found, rest, sofar.rounds))
        sofar.done, sofar.rounds = files, sofar.rounds + 1
        return NewVersion(
            data_set=rewrite.data_set,
            run=rewrite.operation,
            files=sofar.made,
            columns=found.columns,
            append=False,
            parents=(LineageNode("data_set", rewrite.data_set, found.version),),
            statistics=found.quality.columns,
            layout=rewrite.layout,
            rewrites=found.version,
        )

    async def _work(
        self,
        scope: Scope,
        rewrite: Rewrite,
        layout: Layout,
        found: DataSetVersion,
        files: Sequence[WrittenFile],
        number: int,
    ) -> tuple[WrittenFile, ...]:
        rows = max(sum(file.rows for file in files), 1)

        async def tell(message: Mapping[str, Any]) -> None:
            text = f"{message['rows']} rows of {found.data_set} written"
            await self._operations.progress(scope, rewrite.operation, message["rows"] / rows, "dividing", text)

        location = await self._data_sets.locate(scope, found.data_set, found.version)
        folder = self._data_sets.folder(scope, found.data_set, rewrite.operation)
        async with self._data_sets.local(scope, location) as here:
            paths = [Path(here.uri) / file.path for file in here.files[len(here.files) - len(files) :]]
            request = request_of(layout, paths, found.columns, folder, f"d{number}")
            result = await self._metering.run(scope, rewrite.operation, WORK, request, self._limits, tell)
        return parquet.from_json(result["files"])
