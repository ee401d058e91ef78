"""How much projects keep of files of models: said in each hour by a running registry."""

import base64
from pathlib import Path

import pytest
from sqlalchemy import text

from aimass.v1.registry_events_pb2 import ArtifactsStored
from services.kit import tasks
from services.kit.sealed import HEAD
from tests.support.house import House, house
from tests.support.models import logistic, register, upload


async def sizes(running: House) -> list[int]:
    """What the database has, without a look at the store."""
    database = running.runtime.apps["registry"].database
    assert database
    return list(await database.read(lambda c: c.execute(text("SELECT size FROM artifact ORDER BY size")).scalars()))


async def forget_sizes(running: House) -> None:
    """As rows are that were written before there were sizes."""
    database = running.runtime.apps["registry"].database
    assert database
    await database.run(lambda c: c.execute(text("UPDATE artifact SET size = NULL")) and None)


async def test_the_size_of_a_file_is_known_with_the_file(tmp_path: Path) -> None:
    async with house(tmp_path, "registry") as running:
        for data in (b"one" * 1000, b"two" * 2000):
            await upload(running, data)

        assert await sizes(running) == [3000, 6000]


async def test_the_size_of_a_version_and_its_manifest_is_known_with_the_version(tmp_path: Path) -> None:
    async with house(tmp_path, "registry") as running:
        await register(running, "late", logistic(4, 1))

        assert all(await sizes(running))
        assert len(await sizes(running)) >= 2


async def test_a_file_that_is_damaged_or_lost_keeps_none_of_the_others_from_being_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = base64.b64encode(b"k" * 32).decode()
    async with house(tmp_path, "registry", AIMASS_SECRETS_KEY=key) as running:
        cut, lost = [await upload(running, data) for data in (b"one" * 1000, b"two" * 1000)]
        await upload(running, b"whole" * 1000, tenant="umbra")
        await forget_sizes(running)
    cut_file, lost_file = [next(tmp_path.rglob(digest.removeprefix("sha256:"))) for digest in (cut, lost)]
    begun = cut_file.read_bytes()[:HEAD]
    for file in (cut_file, lost_file):
        file.unlink()
    cut_file.write_bytes(begun)
    monkeypatch.setattr(tasks, "_LOOK", 0.05)
    async with house(tmp_path, "registry", AIMASS_SECRETS_KEY=key) as running:
        (event,) = await running.heard(ArtifactsStored)

    assert event.kept.bytes == 5000


async def test_artifacts_of_a_project_are_said_with_their_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, "registry") as running:
        for data in (b"one" * 1000, b"two" * 1000, b"two" * 1000):
            await upload(running, data)
    monkeypatch.setattr(tasks, "_LOOK", 0.05)
    async with house(tmp_path, "registry") as running:
        (event,) = await running.heard(ArtifactsStored)

    assert (event.kept.what, event.kept.bytes) == ("artifacts", 6000)
    assert event.generation * 3600 == event.kept.hour.seconds
