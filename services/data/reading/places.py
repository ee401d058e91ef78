"""Where the bytes of a source are, once it is clear that its tenant may read them."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.data.reading import folders, sqlite
from services.data.reading.folders import Parts
from services.data.reading.kinds import Definition, SqlSource
from services.kit.blobs import Blobs


@dataclass(frozen=True)
class Place:
    """A file or a pattern, as steps below a folder that the tenant may read."""

    root: Path
    steps: Parts

    def to_json(self) -> dict[str, Any]:
        """For a child process."""
        return {"root": str(self.root), "steps": list(self.steps)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Place":
        """What `to_json` wrote."""
        return cls(Path(stored["root"]), tuple(stored["steps"]))


class Places:
    """The folders of tenants and the uploads."""

    def __init__(self, setting: str, home: Path, blobs: Blobs) -> None:
        self._setting, self._home, self._blobs = setting, home, blobs

    @contextlib.asynccontextmanager
    async def of(self, tenant: str, definition: Definition) -> AsyncIterator[Place]:
        """Where a source lies while the context lasts. Raises invalid_value, egress_denied; as blobs for an upload."""
        if not isinstance(definition, SqlSource) and definition.upload_digest:
            async with self._blobs.local(tenant, definition.upload_digest) as path:
                yield Place(path.parent, (path.name,))
            return
        yield self._below(tenant, definition)

    def _below(self, tenant: str, definition: Definition) -> Place:
        """Below a folder of the tenant. Opens nothing."""
        allowed = folders.roots(self._setting, self._home, tenant)
        if isinstance(definition, SqlSource):
            return Place(*folders.place(allowed, sqlite.path_of(definition.url)))
        root, steps = folders.place(allowed, definition.pattern)
        folders.check_pattern(steps)
        return Place(root, steps)
