"""Files of a place (a URI) on this machine, for child processes: of a table, as the data service locates it.

The port and its near adapter: where the place is a folder, its files are here.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol


class Mirrors(Protocol):
    """Brings files to this machine."""

    def hold(self, tenant: str, uri: str, wanted: Mapping[str, str]) -> AbstractAsyncContextManager[Path]:
        """A folder with the wanted files (digest by path below the URI) for as long as the context lasts.

        Not to be written to. A far one verifies them and raises not_found, digest_mismatch, unavailable.
        """


class FolderMirrors:
    """The near one: the folder itself."""

    @contextlib.asynccontextmanager
    async def hold(self, tenant: str, uri: str, wanted: Mapping[str, str]) -> AsyncIterator[Path]:
        yield Path(uri)
