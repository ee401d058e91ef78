"""Files of a run on their way to a store that is away."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from services.data.attachments.attaching import MANIFEST
from services.data.attachments.fetcher import FILES, JOURNAL
from services.data.attachments.keeping import Keeping
from services.kit.auth import Scope
from services.kit.blobs import FolderBlobs
from services.kit.errors import Unavailable
from tests.support.downloads import digest

ACME = Scope("acme")
CONTENT = b"of a server that is asked once"


class Away(FolderBlobs):
    """A store that answers as long as it is there."""

    there = False

    async def adopt(self, tenant: str, file: Path) -> str:
        return await super().adopt(tenant, self._asked(file))

    async def delete(self, tenant: str, digest: str) -> None:
        await super().delete(tenant, self._asked(digest))

    def _asked(self, what: Any) -> Any:
        if not self.there:
            raise Unavailable("the store is away")
        return what


@pytest.fixture
def blobs(tmp_path: Path) -> Away:
    return Away(tmp_path / "blobs")


@pytest.fixture
def keeping(blobs: Away) -> Keeping:
    store: Any = None  # which is not asked
    return Keeping(store, blobs, "", 2**20)


@pytest.fixture
def folder(blobs: Away) -> Path:
    """What the child of the run r has left."""
    folder = blobs.scratch("acme") / "attachments-r"
    (folder / FILES).mkdir(parents=True)
    (folder / FILES / digest(CONTENT).removeprefix("sha256:")).write_bytes(CONTENT)
    (folder / JOURNAL).write_bytes(b"{}\n")
    (folder / MANIFEST).write_bytes(orjson.dumps({"state": "kept", "digest": digest(CONTENT)}) + b"\n")
    return folder


async def test_what_came_is_kept_for_the_time_when_the_store_is_back(
    keeping: Keeping, blobs: Away, folder: Path
) -> None:
    with pytest.raises(Unavailable):
        await keeping.take(ACME, "r")
    assert (folder / JOURNAL).exists(), "all would be fetched again"
    blobs.there = True
    await keeping.take(ACME, "r")
    assert await blobs.get("acme", digest(CONTENT)) == CONTENT


async def test_a_run_has_ended_though_its_store_is_away(keeping: Keeping, folder: Path) -> None:
    await keeping.clear(ACME, "r")
    assert not folder.exists()
