"""Records whose tenants' keys lie in a bucket: kept while it hangs, forgotten when another process destroys them."""

import time
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from services.kit.sealed_s3 import BucketKeys
from services.logs.ingest.sealing import is_sealed, runs
from services.logs.ingest.segments import Frame, Position, Segments
from tests.logs.conftest import found, line, logs, search, tell
from tests.support.house import until
from tests.support.storages import own_server, settings, storage

pytestmark = pytest.mark.far


def frames(home: Path) -> list[Frame]:
    """As they lie in the first file."""
    segments = Segments(home / "logs-store" / "records")
    segments.open()
    found, _ = segments.read(Position(), 2**30)
    segments.close()
    return found


async def test_a_bucket_that_hangs_holds_up_records_of_new_tenants_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, load = list[str](), BucketKeys.load

    async def asking(store: BucketKeys, tenant: str, *known: Collection[int]) -> Mapping[int, bytes]:
        asked.append(tenant)
        return await load(store, tenant, *known)

    monkeypatch.setattr(BucketKeys, "load", asking)
    with own_server(tmp_path / "s3") as server:
        async with logs(tmp_path / "home", **settings("sealed", server.address)) as centre:
            await tell(centre, line("known before"), line("of the house", "system"))
            await found(centre, "before")
            await found(centre, "house", 1, "system")
            assert centre.runtime.storage.keys
            centre.runtime.storage.keys._ticks = lambda: time.monotonic() + 600  # long after the last look
            server.freeze()
            asked.clear()
            for number in range(3):
                await tell(centre, line(f"known meanwhile {number}"))
                await found(centre, "meanwhile", number + 1)
            assert asked == []
            await tell(centre, line("somebody new", "new"))
            server.thaw()
            await found(centre, "somebody", 1, "new")
    assert all(is_sealed(frame.block) for frame in frames(tmp_path / "home"))
    assert not (tmp_path / "home" / "keys" / "tenants").exists()


async def test_keys_that_another_process_destroys_end_what_is_kept_and_what_is_found(tmp_path: Path) -> None:
    env, home = settings("sealed"), tmp_path / "home"
    async with logs(home, **env) as centre:
        await tell(centre, line("of one who leaves", "gone"), line("others", "stays"))
        await found(centre, "leaves", 1, "gone")
        await found(centre, "others", 1, "stays")
        gateway = storage(tmp_path / "gateway", env)
        assert gateway.keys
        await gateway.keys.shred("gone")
        gateway.blobs.close()
        assert centre.runtime.storage.keys
        await centre.runtime.storage.keys.look()
        before = len(await search(centre, "others", "stays"))
        await tell(centre, line("still leaves", "gone"), line("others again", "stays"))
        await found(centre, "others", before + 1, "stays")
        assert len(await search(centre, "leaves", "gone")) == 1  # the index has what it had
        centre.runtime.forgetting.wake()
        await until(lambda: (home / "logs-store" / "forgotten").exists())
        assert await search(centre, "leaves", "gone") == []
    assert all(run.tenant != "gone" for frame in frames(home) for run in runs(frame.block))


async def test_a_bucket_without_a_key_of_the_installation_leaves_records_plain(tmp_path: Path) -> None:
    async with logs(tmp_path, **settings("far")) as centre:
        await tell(centre, line("as before"))
        await found(centre, "before")
    assert frames(tmp_path)
    assert not any(is_sealed(frame.block) for frame in frames(tmp_path))
