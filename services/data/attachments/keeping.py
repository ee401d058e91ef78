"""What a run of an extraction does about the files that its child has fetched: they are blobs before rows name them.

The child leaves files and a manifest in a folder of the run. The files become blobs, then the manifest does, and its
digest goes with the version as a note; so whatever ends the service, the run is completed from blobs, or done again
with the files that are still in the folder. What was fetched is the data set's in the transaction of the version.
"""

import asyncio
import logging
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy.engine import Connection

from services.data.attachments.attaching import KNOWN, MANIFEST
from services.data.attachments.domain import Attached, Outcome, State
from services.data.attachments.fetcher import FILES, JOURNAL
from services.data.attachments.store import AttachmentStore
from services.kit.auth import Scope
from services.kit.blobs import Blobs
from services.kit.digests import digest_of
from services.kit.disk import on_disk
from services.kit.errors import Code, Failure

log = logging.getLogger(__name__)
_NOTE, _LISTS, _AT_ONCE = "attachments", "lists", 8
_MOST_KNOWN = 200_000  # places of a data set: those behind them are fetched again
_SHARE = 0.8  # of a run's time: after that nothing is fetched, so that its rows are written in time


class Damaged(Failure):
    """A file that was fetched is lost: the child, started again, fetches it again."""


class Keeping:
    """The files of runs."""

    def __init__(self, store: AttachmentStore, blobs: Blobs, allow: str, most: int) -> None:
        """`allow`: what the operator lets be reached; `most`: bytes of all files of a run."""
        self._store, self._blobs, self._allow, self._most = store, blobs, allow, most

    def request(self, scope: Scope, run: str, seconds: float) -> dict[str, Any]:
        """What the child of a run is told, which may take so many seconds."""
        folder = str(self._folder(scope, run))
        return {"folder": folder, "allow": self._allow, "seconds": seconds * _SHARE, "most": self._most}

    async def remember(self, scope: Scope, run: str, data_sets: Sequence[str]) -> None:
        """Tells the child of a run that reads again which files its data sets have: none of these is fetched anew."""
        folder = self._folder(scope, run)
        await asyncio.to_thread(folder.mkdir, exist_ok=True)
        with on_disk(), await asyncio.to_thread(open, folder / KNOWN, "wb") as file:
            for number, data_set in enumerate(data_sets):
                after, left = "", _MOST_KNOWN
                while left > 0 and (page := await self._store.known(scope, data_set, after)):
                    lines = [_known(number, attached) for _, attached in page]
                    await asyncio.to_thread(file.writelines, lines)
                    after, left = page[-1][0], left - len(page)

    def _folder(self, scope: Scope, run: str) -> Path:
        return self._blobs.scratch(scope.tenant) / f"attachments-{run}"

    async def take(self, scope: Scope, run: str) -> Mapping[str, Any]:
        """Makes blobs of what the child has left; returns what must be noted with the version.

        Raises damaged when a file is not there, or not as the child left it.
        """
        folder = self._folder(scope, run)
        digests, turn = await asyncio.to_thread(_kept, folder / MANIFEST), asyncio.Semaphore(_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                for digest in digests:
                    group.create_task(self._adopt(scope, folder / FILES, digest, turn))
        except BaseExceptionGroup as several:
            # What a store that is away has not taken is still there for the next attempt.
            for name in (JOURNAL, KNOWN) if isinstance(several.exceptions[0], Damaged) else ():
                await asyncio.to_thread((folder / name).unlink, missing_ok=True)
            raise several.exceptions[0] from None
        manifest = await asyncio.to_thread(_manifest, folder, run)
        return {_NOTE: await self._blobs.put(scope.tenant, manifest)}

    async def _adopt(self, scope: Scope, folder: Path, digest: str, turn: asyncio.Semaphore) -> None:
        file = folder / digest.removeprefix("sha256:")
        async with turn:
            if await asyncio.to_thread(file.exists):
                found = await self._blobs.adopt(scope.tenant, file)
            else:
                found = digest if await self._blobs.exists(scope.tenant, digest) else ""
        if found != digest:
            raise Damaged(Code.DIGEST_MISMATCH, f"{digest} has been damaged on its way to the store")

    async def noted(self, scope: Scope, notes: Mapping[str, Any], data_sets: Sequence[str]) -> Sequence[Attached]:
        """What was found in the run of a version with these notes; `data_sets` are those that it writes."""
        if not (digest := notes.get(_NOTE)):
            return ()
        _, *lines = (await self._blobs.get(scope.tenant, digest)).splitlines()
        return await asyncio.to_thread(lambda: [_attached(orjson.loads(line), data_sets) for line in lines])

    def record(self, connection: Connection, scope: Scope, found: Sequence[Attached], run: str, now: datetime) -> None:
        """The data sets have these files from now on, in the transaction of their versions."""
        self._store.record(connection, scope, found, run, now)

    async def clear(self, scope: Scope, run: str, notes: Mapping[str, Any] | None = None) -> None:
        """Removes what a run that has ended needed on its way, as far as it can; `notes` are those of its version."""
        folder = self._folder(scope, run)
        lists = await asyncio.to_thread(_lists, folder / _LISTS)
        for digest in lists | {notes[_NOTE]} if notes and _NOTE in notes else lists:
            try:
                await self._blobs.delete(scope.tenant, digest)
            except Failure as failure:  # the run has ended all the same
                log.warning("the list %s of the files of the run %s stays: %s", digest, run, failure)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _lists(path: Path) -> set[str]:
    """Digests of the manifests of all attempts of a run."""
    return set(path.read_text().split()) if path.exists() else set()


def _manifest(folder: Path, run: str) -> bytes:
    """As a blob: no two runs have the same one, so it can be removed. Noted before it is one: who comes next knows."""
    manifest = orjson.dumps({"run": run}) + b"\n" + (folder / MANIFEST).read_bytes()
    with on_disk(), (folder / _LISTS).open("a") as lists:
        lists.write(f"{digest_of(manifest)}\n")
    return manifest


def _known(number: int, attached: Attached) -> bytes:
    said = {"table": number, "column": attached.column, "origin": attached.origin, **attached.outcome.to_json()}
    return orjson.dumps(said) + b"\n"


def _kept(path: Path) -> list[str]:
    """The digests of the files that a manifest has."""
    with path.open("rb") as file:
        each = map(orjson.loads, file)
        return sorted({said["digest"] for said in each if said["state"] == State.KEPT})


def _attached(said: Mapping[str, Any], data_sets: Sequence[str]) -> Attached:
    return Attached(data_sets[said["table"]], said["column"], said["digests"], said["origin"], Outcome.of(said))
