"""A log centre's store that forgets a tenant, killed before each thing that it does to its files.

`python -m tests.logs.forgetting FOLDER` prints how many places there were; what is wrong at one of them ends it.
What the library of the index does by itself is one place: it has its own way to come through a kill.
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from services.kit.auth import Scope
from services.logs.domain import Record
from services.logs.ingest.forgotten import Forgotten
from services.logs.ingest.sealing import runs
from services.logs.ingest.segments import Position, Segments
from services.logs.ingest.service import Batch, Ingest, numbered_records
from services.logs.search.index import Index, Window
from services.logs.search.service import Search
from tests.logs.records import record
from tests.support.house import until
from tests.support.kept import frames, keys_of

MARK = b"9f2c41d7b8e35a06"  # no compression finds a part of it before
STAYS = [f"r{number}" for number in range(12)]
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}


class Store:
    """The parts of a log centre that keep records, put together as it does."""

    def __init__(self, folder: Path, sealed: bool = True) -> None:
        """The keys lie beside the folder: what is killed here changes none of them."""
        self.folder = folder
        self.ingest = Ingest(Segments(folder / "records", most=1500), keys=keys_of(folder.parent) if sealed else None)
        self.search = Search(self.ingest, Index(folder / "index"))
        self.forgotten = Forgotten(folder / "forgotten", self.ingest, self.search.forget)

    async def kept(self) -> list[str]:
        """Records of all that is in the files, in their order; says so where a place of them cannot be read."""
        found, position, last = list[Record](), Position(), None
        while position != last:
            last = position
            stored, position = await self.ingest.read(last)
            found += [one for _, one in numbered_records(stored)]
        assert not self.ingest.damaged
        return [one.record for one in found]

    async def found(self, tenant: str) -> list[str]:
        """Records of a tenant that a search finds, oldest first."""
        page = await self.search.search(Scope(tenant), "", Window(), 1000, "")
        return [one.record for one in reversed(page.items)]

    async def all_found(self) -> bool:
        return await self.found("acme") == STAYS

    def told(self) -> list[str]:
        """Files in which words of the tenant can be read."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return [str(path.relative_to(self.folder)) for path in files if MARK in path.read_bytes()]


@contextlib.asynccontextmanager
async def opened(folder: Path, sealed: bool = True) -> AsyncIterator[Store]:
    folder.mkdir(exist_ok=True)
    store = Store(folder, sealed)
    await store.forgotten.load()
    await store.ingest.open()
    following = asyncio.create_task(store.search.follow())
    try:
        yield store
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await store.search.close()
        store.ingest.close()


async def fill(folder: Path) -> None:
    """Half of it lies plain, as from before there were keys."""
    half = len(STAYS) // 2
    for sealed, numbers in ((False, range(half)), (True, range(half, len(STAYS)))):
        async with opened(folder, sealed) as store:
            for number in numbers:
                gone = record(number, tenant="gone", text="canary " + MARK.decode())._replace(record=f"g{number}")
                await store.ingest.append([Batch(f"event-{number}", [record(number, text="x" * 90), gone])])
            if sealed:
                await until(store.all_found)
    assert store.told()
    assert any(list(runs(frame.block)) for frame, _ in await frames(folder.parent, folder / "records"))


async def forget(folder: Path) -> None:
    async with opened(folder) as store:
        await store.forgotten.forget(["gone"])


async def check(folder: Path) -> None:
    """Nobody else has lost anything, and whoever starts again brings it to its end."""
    async with opened(folder) as store:
        assert [name for name in await store.kept() if name.startswith("r")] == STAYS
        await until(store.all_found)
        await store.forgotten.forget(["gone"])
        assert (await store.kept(), await store.found("gone")) == (STAYS, [])
        await until(store.all_found)
    assert (folder / "forgotten").read_text() == '["gone"]'
    assert store.told() == []
    left = {run.tenant for frame, _ in await frames(folder.parent, folder / "records") for run in runs(frame.block)}
    assert {name for name in left if name.strip("\0")} == {"acme"}


def die_at(folder: Path, place: int) -> None:
    """Kills this process before it opens a file of the folder, or changes one, for the time that `place` counts.

    A file that is written has another place: it is there, and nothing in it.
    """
    places = itertools.count()

    def hook(event: str, about: tuple[Any, ...]) -> None:
        if event not in CHANGES and not (event == "open" and str(about[0]).startswith(str(folder))):
            return
        if next(places) == place:
            os.kill(os.getpid(), signal.SIGKILL)
        if event == "open" and "w" in (about[1] or "") and next(places) == place:
            os.close(os.open(about[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def apart(work: Callable[[Path], Coroutine[Any, Any, None]], folder: Path, place: int | None = None) -> int:
    """Does it in a process of its own; how that ended. Here no thread may have begun."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        if place is not None:
            die_at(folder, place)
        asyncio.run(work(folder))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def main(folder: Path) -> None:
    whole = folder / "whole"
    assert apart(fill, whole) == 0
    for place in itertools.count():
        home = folder / str(place)
        shutil.copytree(whole, home)
        ended = apart(forget, home, place)
        assert ended in (0, -signal.SIGKILL), f"place {place}"
        assert apart(check, home) == 0, f"killed at place {place}"
        shutil.rmtree(home)
        if ended == 0:
            print(place)
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
