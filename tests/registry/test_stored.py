"""How much projects keep of files of models: said in each hour by a running registry."""

from pathlib import Path

import pytest

from aimass.v1.registry_events_pb2 import ArtifactsStored
from services.kit import hourly
from tests.support.house import house
from tests.support.models import upload


async def test_artifacts_of_a_project_are_said_with_their_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, "registry") as running:
        for data in (b"one" * 1000, b"two" * 1000, b"two" * 1000):
            await upload(running, data)
    monkeypatch.setattr(hourly, "_LOOK", 0.05)
    async with house(tmp_path, "registry") as running:
        (told,) = await running.heard(ArtifactsStored)

    assert (told.kept.what, told.kept.bytes) == ("artifacts", 6000)
    assert told.generation * 3600 == told.kept.hour.seconds
