"""The use cases of branches: a data set that begins as a version of another, shares its files, and may be merged."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from sqlalchemy.engine import Connection

from services.data.datasets.domain import DataSet, DataSetVersion, LineageNode, NewVersion, Which, WrittenFile
from services.data.datasets.service import DataSets
from services.data.datasets.store.branches import BranchStore
from services.kit.auth import Scope
from services.kit.db import Once
from services.kit.errors import Code, FailedPrecondition, Failure, match_etag
from services.kit.pages import Page
from services.kit.timestamps import uuid7

_NAMED = 5  # versions that a refusal names


class Follower(Protocol):
    """A slice that keeps something of a data set that a branch needs a copy of, in transactions of these use cases."""

    def branched(self, connection: Connection, scope: Scope, data_set: str, branch: str) -> None: ...

    def merged(self, connection: Connection, scope: Scope, data_set: str, branch: str) -> None: ...


class Branches:
    """The use cases."""

    def __init__(
        self, store: BranchStore, data_sets: DataSets, followers: Sequence[Follower], now: Callable[[], datetime]
    ) -> None:
        self._store, self._data_sets, self._followers, self._now = store, data_sets, followers, now

    async def make(
        self, scope: Scope, data_set: str, branch: str, which: Which, description: str, once: Once | None
    ) -> DataSetVersion:
        """The first version of a new branch: the rows of a version of a data set, the newest if nothing is said.

        Raises not_found, unknown_version, invalid_value, already_exists, limit_exceeded; failed_precondition for a
        branch, and where raw records land; conflict when the newest version has another after it by now.
        """
        await self._store.recall(once)
        found = await self._data_sets.get(scope, data_set)
        if found.branch_of:
            raise FailedPrecondition(f"{data_set} is a branch of {found.branch_of}, and has no branches")
        if found.landed_from:
            raise FailedPrecondition(f"raw records of {found.landed_from} land in {data_set}, and it has no branches")
        number = await self._data_sets.number(scope, data_set, which)
        old, files = await self._data_sets.whole(scope, data_set, number)
        time = self._now()
        made = DataSet(branch, description, 0, 1, time, time, owner=found.owner, branch_of=data_set)
        made = replace(made, branch_version=old.version)
        await self._store.make(scope, made)

        def effects(connection: Connection, version: DataSetVersion) -> None:
            self._store.made(connection, scope, made, version)
            if old.version == found.latest_version:
                self._data_sets.check_newest(connection, scope, data_set, old.version)
            for follower in self._followers:
                follower.branched(connection, scope, data_set, branch)

        return await self._commit(scope, _new(branch, old, files), effects, once)

    async def merge(
        self, scope: Scope, data_set: str, branch: str, forced: bool, etag: str, once: Once | None
    ) -> DataSetVersion:
        """Adds a version with the rows of a branch's newest one.

        Raises not_found, etag_required and etag_mismatch for a forced one; failed_precondition for what is no branch of
        the data set, where nothing is new, and, unless it is forced, when the data set has moved; conflict when one of
        the two moves meanwhile, in_progress while an extraction runs.
        """
        await self._store.recall(once)
        found, trial = await self._data_sets.get(scope, data_set), await self._data_sets.get(scope, branch)
        if trial.branch_of != data_set:
            raise FailedPrecondition(f"{branch} is not a branch of {data_set}")
        if forced and not etag:
            raise Failure(Code.ETAG_REQUIRED, f"{data_set} is to be replaced: If-Match with its etag is required")
        if etag:
            match_etag(etag, found.generation, data_set)
        if found.latest_version != trial.branch_version and not forced:
            raise await self._moved(scope, found, trial)
        new, files = await self._data_sets.whole(scope, branch, trial.latest_version)
        base = await self._data_sets.version(scope, data_set, found.latest_version)
        if new.digest == base.digest:
            raise FailedPrecondition(f"{branch} is as the newest version of {data_set}: there is nothing to merge")

        def effects(connection: Connection, version: DataSetVersion) -> None:
            if version.version != found.latest_version + 1:
                raise Failure(Code.CONFLICT, f"{data_set} got another version in the meantime")
            self._store.merged(connection, scope, version, trial, version.create_time)
            for follower in self._followers:
                follower.merged(connection, scope, data_set, branch)

        return await self._commit(scope, _new(data_set, new, files), effects, once)

    async def list(self, scope: Scope, data_set: str, page_size: int, page_token: str) -> Page[DataSet]:
        """By name, without deleted ones. Raises not_found."""
        return await self._store.list(scope, data_set, page_size, page_token)

    async def _moved(self, scope: Scope, found: DataSet, trial: DataSet) -> Failure:
        """Says by what."""
        name, base = found.data_set, trial.branch_version
        since = await self._store.since(scope, name, base, _NAMED)
        said = "; ".join(map(_said, since))
        more = (
            f"; and {found.latest_version - base - len(since)} more" if since[-1].version < found.latest_version else ""
        )
        text = f"{name} has moved since {trial.data_set} had the rows of its version {base}: {said}{more}"
        return FailedPrecondition(f"{text}. Branch again, or merge with replace, which leaves these rows out")

    async def _commit(
        self,
        scope: Scope,
        new: NewVersion,
        effects: Callable[[Connection, DataSetVersion], None],
        once: Once | None,
    ) -> DataSetVersion:
        await self._data_sets.prepare(scope, new.data_set, new.run)
        try:
            return await self._data_sets.commit(scope, new, effects, once)
        except Failure:
            await self._data_sets.discard(scope, new.data_set, new.run)
            raise


def _new(data_set: str, old: DataSetVersion, files: Sequence[WrittenFile]) -> NewVersion:
    """The rows of a version of one data set, for another."""
    homes = ((file.home or old.data_set, file) for file in files)
    return NewVersion(
        data_set=data_set,
        run=uuid7(),
        files=tuple(replace(file, home="" if home == data_set else home) for home, file in homes),
        columns=old.columns,
        append=False,
        parents=(LineageNode("data_set", old.data_set, old.version),),
        shares=old.data_set,
        layout=old.layout,
        statistics=old.quality.columns,
    )


def _said(version: DataSetVersion) -> str:
    own = ("data_set", version.data_set)
    writers = [f"{parent.kind}:{parent.name}" for parent in version.parents if (parent.kind, parent.name) != own]
    return f"version {version.version} of {version.create_time:%Y-%m-%dT%H:%M:%SZ} by {', '.join(writers) or 'itself'}"
