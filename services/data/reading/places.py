"""Where the bytes of a source are, once it is clear that its tenant may read them."""

import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from services.data.reading import folders
from services.data.reading.connectors import connector
from services.data.reading.folders import Place
from services.data.reading.kinds import Definition, FilesSource
from services.kit.blobs import Blobs
from services.kit.egress import Egress
from services.kit.errors import Unavailable


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
        if servers := reader.reaches:
            trusted = all(self._egress.allows(*server) for server in servers)
            address = await self._address(servers)
            place = place._replace(address=address, trusted=trusted, allow=self._egress.allowed)
        yield place

    def owns(self, tenant: str, place: Place) -> bool:
        """Whether a file is in a folder of a tenant alone: no folder of all tenants has it, too."""
        shared = [part for part in self._setting.split(os.pathsep) if part and "{tenant}" not in part]
        common = folders.roots(os.pathsep.join(shared), self._home, tenant) if shared else ()
        return not any(place.root.joinpath(*place.steps).is_relative_to(root) for root in common)

    async def _address(self, servers: Sequence[tuple[str, int]]) -> str:
        """Of the first that has one; each must be one that may be reached."""
        found, away = list[str](), list[Unavailable]()
        for server in servers:
            try:
                found.append(await self._egress.address(*server))
            except Unavailable as failure:
                away.append(failure)
        if not found:
            raise away[0]
        return found[0]
