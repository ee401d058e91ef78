"""The use cases of pushed records."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from services.data.reading.connector import PartLag
from services.data.reading.kinds import PushedSource
from services.data.sources import pushing
from services.data.sources.store import SourceStore
from services.data.sources.store.pushed import PushedStore
from services.kit.auth import Scope
from services.kit.errors import FailedPrecondition

_PAGE, _BYTES = 1000, 2**30  # records that are written at once; bytes for one run, the next takes up the rest


class Pushes:
    """The use cases."""

    def __init__(self, sources: SourceStore, store: PushedStore, folder: Path, now: Callable[[], datetime]) -> None:
        """`folder` is for files that last as long as an extraction."""
        self._sources, self._store, self._folder, self._now = sources, store, folder, now

    async def push(self, scope: Scope, name: str, records: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
        """Stores records; returns how many are new, and how many were there.

        Raises not_found, failed_precondition, invalid_value, already_exists.
        """

        def work(connection: Connection) -> tuple[int, int]:
            definition = self._sources.locked(connection, scope, name).definition
            if not isinstance(definition, PushedSource):
                raise FailedPrecondition(f"the source {name} does not take pushed records: it is of another kind")
            found = pushing.checked(definition, records)
            stored = self._store.add(connection, scope, name, found, self._now())
            return stored, len(records) - stored

        # Each statement sees what was committed before it: also by who had the lock before us.
        return await self._sources.write(work)

    @contextlib.asynccontextmanager
    async def exported(self, scope: Scope, name: str, after: int, most: int = 0) -> AsyncIterator[Path]:
        """A file with the records behind a number, at most `most` of them if it is set, while the context lasts."""
        folder = Path(await asyncio.to_thread(self._made))
        try:
            path, left, count = folder / "records", _BYTES, most
            with path.open("wb") as file:
                while left > 0 and (page := await self._store.page(scope, name, after, min(count or _PAGE, _PAGE))):
                    lines = b"".join(b"[%d,%s]\n" % one for one in page)
                    await asyncio.to_thread(file.write, lines)
                    after, left = page[-1][0], left - len(lines)
                    if most and (count := count - len(page)) <= 0:
                        break
            yield path
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def lag(self, scope: Scope, name: str, after: int) -> PartLag:
        """How many records lie behind a number."""
        return PartLag("records", after, await self._store.last(scope, name))

    def _made(self) -> str:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return tempfile.mkdtemp(dir=self._folder)

    async def kept(self) -> dict[Scope, int]:
        """Bytes of what each project of all tenants has pushed."""
        return await self._store.kept()
