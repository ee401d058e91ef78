"""Where the bytes of a source are, once it is clear that its tenant may read them."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from services.data.reading import folders
from services.data.reading.connectors import connector
from services.data.reading.folders import Place
from services.data.reading.kinds import Definition, FilesSource
from services.kit.blobs import Blobs


class Places:
    """The folders of tenants and the uploads."""

    def __init__(self, setting: str, home: Path, blobs: Blobs) -> None:
        self._setting, self._home, self._blobs = setting, home, blobs

    @contextlib.asynccontextmanager
    async def of(self, tenant: str, definition: Definition) -> AsyncIterator[Place]:
        """Where a source lies while the context lasts. Raises invalid_value, egress_denied; as blobs for an upload."""
        if isinstance(definition, FilesSource) and definition.upload_digest:
            async with self._blobs.local(tenant, definition.upload_digest) as path:
                yield Place(path.parent, (path.name,))
            return
        yield connector(definition).below(folders.roots(self._setting, self._home, tenant))
