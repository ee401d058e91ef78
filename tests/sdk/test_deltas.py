"""Archives with Delta tables: unpacked whole or not at all, whatever is in them."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aimass import AsyncClient, Client, Failure, deltas
from tests.sdk.conftest import Door

LOG = "_delta_log/00000000000000000000.json"
FILES = {"part-00000.parquet": b"rows" * 5000, LOG: b"{}\n"}


def packed(files: dict[str, bytes], **changed: Any) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for attribute, value in changed.items():
                setattr(info, attribute, value)
            archive.addfile(info, io.BytesIO(content))
    return sink.getvalue()


def pieces(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 777):
        yield content[start : start + 777]


async def test_an_archive_becomes_a_folder(door: Door, tmp_path: Path) -> None:
    door.say(packed(FILES))
    with Client(door.url, "k") as client:
        found = client.save_delta("depots", tmp_path / "one", 3, columns=["id"])
    async with AsyncClient(door.url, "k") as other:
        await other.save_delta("depots", tmp_path / "two")

    assert found == tmp_path / "one"
    for folder in ("one", "two"):
        assert {name: (tmp_path / folder / name).read_bytes() for name in FILES} == FILES
    assert [one.path for one in door.asked] == [f"/v1/data-sets/depots/versions/{n}:delta" for n in (3, 0)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


WRONG = [
    (packed(FILES)[:9000], "unavailable"),
    (packed({"part-00000.parquet": b"rows"}), "unavailable"),
    (b"", "unavailable"),
    (b"no archive" * 1000, "unavailable"),
    (packed({"../part-00000.parquet": b"x"} | FILES), "invalid_value"),
    (packed({"/tmp/part-00000.parquet": b"x"} | FILES), "invalid_value"),
    (packed({"_delta_log/../part-00000.parquet": b"x"} | FILES), "invalid_value"),
    (packed({"part-00000.parquet": b""}, type=tarfile.SYMTYPE, linkname="/etc/passwd"), "invalid_value"),
]


@pytest.mark.parametrize(("content", "code"), WRONG)
def test_what_is_no_whole_table_leaves_nothing(content: bytes, code: str, tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        deltas.unpack(lambda: pieces(content), tmp_path / "table")

    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_a_connection_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield from pieces(packed(FILES))
        raise Failure("unavailable", "the connection broke")

    with pytest.raises(Failure, match="the connection broke"):
        deltas.unpack(broken, tmp_path / "table")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()

    with pytest.raises(Failure) as caught:
        deltas.unpack(lambda: pieces(packed(FILES)), tmp_path / "table")
    assert caught.value.code == "already_exists"
