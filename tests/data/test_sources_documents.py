"""Files as records about themselves: images, sounds, films and texts."""

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from aimass.v1 import rules_pb2, uploads_pb2
from aimass.v1 import sources_pb2 as pb
from aimass.v1.rules_pb2_grpc import RulesStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.data.reading import described
from services.data.reading.described import Described
from services.data.reading.files import LocalFiles
from services.data.reading.folders import Place
from services.data.reading.wholes import Unfinished
from services.kit.errors import Code
from tests.data.extracting import Tenant
from tests.data.reading.test_media import png
from tests.support.house import house
from tests.support.refused import refused

FOLDER = {"files": {"pattern": "pictures/*", "format": "FILE_FORMAT_DOCUMENT"}}
TYPES = {"path": "STRING", "size": "INT64", "media_type": "STRING", "digest": "STRING", "modify_time": "TIMESTAMP"}
RULE = {
    "json": {
        "columns": [
            *({"name": name, "type": f"COLUMN_TYPE_{kind}", "required": True} for name, kind in TYPES.items()),
            {"name": "width", "type": "COLUMN_TYPE_INT64"},
            {"name": "height", "type": "COLUMN_TYPE_INT64"},
            {"name": "text", "type": "COLUMN_TYPE_STRING"},
        ]
    }
}


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def folder(home: Path) -> Path:
    folder = home / "import" / "acme" / "pictures"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(png(3, 2))
    (folder / "b.txt").write_text("ä" * 5000)
    os.utime(folder / "a.png", (1_767_225_600, 1_767_225_600))
    return folder


@pytest.fixture
async def tenant(home: Path, folder: Path) -> AsyncIterator[Tenant]:
    async with house(home, "data") as running:
        yield Tenant(running)


async def preview(tenant: Tenant, described: dict[str, Any]) -> list[dict[str, Any]]:
    shown = await tenant.stub(SourcesStub).PreviewSource(ParseDict(described, pb.PreviewSourceRequest()))
    return [MessageToDict(record) for record in shown.records]


async def test_a_file_is_a_record_about_it(tenant: Tenant) -> None:
    image, text = await preview(tenant, FOLDER)
    assert image == {
        "path": "pictures/a.png", "size": len(png(3, 2)), "media_type": "image/png", "digest": digest(png(3, 2)),
        "modify_time": "2026-01-01T00:00:00.000Z", "width": 3.0, "height": 2.0, "text": None,
    }  # fmt: skip
    assert (text["media_type"], text["text"], text["width"]) == ("text/plain", "ä" * 4096, None)
    await tenant.stub(SourcesStub).CreateSource(ParseDict({"source": "found", **FOLDER}, pb.CreateSourceRequest()))
    found = await tenant.stub(RulesStub).DiscoverRules(rules_pb2.DiscoverRulesRequest(source="found"))
    assert {column.name for column in found.proposals[0].definition.json.columns} == {*TYPES, "width", "height", "text"}


async def test_what_is_as_it_was_is_not_read_again_and_what_changed_is(tenant: Tenant, folder: Path) -> None:
    await tenant.rule("pictures", FOLDER, RULE)
    assert (await tenant.extract("pictures")).rows_accepted == 2
    assert (await tenant.extract("pictures")).records_read == 0
    os.utime(folder / "b.txt")
    (folder / "a.png").rename(folder / "c.png")
    (folder / "empty").touch()
    assert (await tenant.extract("pictures")).records_read == 0
    (folder / "b.txt").write_text("other words")
    (folder / "d.png").write_bytes(png(9, 9))
    done = await tenant.extract("pictures")
    assert done.rows_accepted == 2
    rows = await tenant.rows("pictures", done.data_set_version)
    assert {(row["path"], row["digest"]) for row in rows} == {
        ("pictures/a.png", digest(png(3, 2))),
        ("pictures/b.txt", digest(("ä" * 5000).encode())),
        ("pictures/b.txt", digest(b"other words")),
        ("pictures/d.png", digest(png(9, 9))),
    }
    (folder / "empty").write_text("no more")
    assert (await tenant.extract("pictures")).rows_accepted == 1


async def test_an_upload_is_a_record_under_its_digest(tenant: Tenant) -> None:
    stub, data = tenant.stub(SourcesStub), png(5, 4)
    upload = (await stub.CreateSourceUpload(uploads_pb2.CreateUploadRequest())).upload
    request = uploads_pb2.WriteUploadRequest(upload=upload)
    request.body.data = data
    await stub.WriteSourceUpload(request)
    await stub.CommitSourceUpload(uploads_pb2.CommitUploadRequest(upload=upload, digest=digest(data)))
    files = {"upload_digest": digest(data), "format": "FILE_FORMAT_DOCUMENT"}
    (found,) = await preview(tenant, {"files": files})
    assert (found["path"], found["digest"], found["width"]) == (digest(data), digest(data), 5.0)
    assert found["modify_time"] is None


async def test_documents_are_on_this_machine(tenant: Tenant) -> None:
    files = {"pattern": "s3://bucket/*", "format": "FILE_FORMAT_DOCUMENT"}
    failure = await refused(preview(tenant, {"files": files}))
    assert (failure.code, "below a folder" in failure.detail) == (Code.INVALID_VALUE, True)


def test_a_file_that_is_written_while_it_is_read_is_left_for_later(folder: Path) -> None:
    files = LocalFiles(Place(folder, ()))
    with files.open(("b.txt",)) as raw:
        with (folder / "b.txt").open("a") as file:
            file.write("more")
        with pytest.raises(Unfinished):
            Described(raw, "b.txt", "", dated=True).read(1)


def test_a_file_that_is_too_large_is_put_aside_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(described, "_LARGEST", 100)
    with LocalFiles(Place(folder, ())).open(("b.txt",)) as raw:
        reader = Described(raw, "b.txt", "", dated=True)
        assert reader.read(1).broken == [(1, "b.txt", "the file is larger than 1 GiB")]
        assert not reader.read(1).size
        assert not Described(raw, "b.txt", reader.digest, dated=True).read(1).size
