"""Where the bytes of a source are, once it is clear that its tenant may read them."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from services.data.reading import folders
from services.data.reading.connectors import connector
from services.data.reading.folders import Place
from services.data.reading.kinds import Definition, FilesSource
from services.kit.blobs import Blobs
from services.kit.egress import Egress


class Places:
    """The folders of tenants and the uploads."""

    def __init__(self, setting: str, home: Path, blobs: Blobs, egress: Egress | None = None) -> None:
        """`egress` says which servers may be reached; without one, no private ones."""
        self._setting, self._home, self._blobs, self._egress = setting, home, blobs, egress or Egress()

    @contextlib.asynccontextmanager
    async def of(self, tenant: str, definition: Definition) -> AsyncIterator[Place]:
        """Where a source lies while the context lasts.

        Raises invalid_value, egress_denied; unavailable for a server without an address; as blobs for an upload.
        """
        if isinstance(definition, FilesSource) and definition.upload_digest:
            async with self._blobs.local(tenant, definition.upload_digest) as path:
                yield Place(path.parent, (path.name,))
            return
        reader = connector(definition)
        place = reader.below(folders.roots(self._setting, self._home, tenant))
        if server := reader.reaches:
            place = place._replace(address=await self._egress.address(*server), trusted=self._egress.allows(*server))
        yield place
