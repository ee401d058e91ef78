"""Files of every kind through the door: previewed as they are, with how they seem to be written, and extracted."""

import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from aimass.v1 import rules_pb2
from aimass.v1 import sources_pb2 as pb
from aimass.v1.rules_pb2_grpc import RulesStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.errors import Code
from tests.data import places
from tests.data.extracting import Tenant
from tests.data.packing import parquet, zstd
from tests.support.house import House, house
from tests.support.refused import refused

TOWNS = "name;people\nZürich;420000\nBern;135000\n"
TOWN = {"columns": [{"name": "name", "type": "COLUMN_TYPE_STRING"}, {"name": "people", "type": "COLUMN_TYPE_INT64"}]}
FILES: dict[str, tuple[bytes, dict[str, Any], dict[str, Any]]] = {
    "a.csv.gz": (
        gzip.compress(TOWNS.encode("utf-16")),
        {"format": "FILE_FORMAT_CSV", "delimiter": ";", "encoding": "FILE_ENCODING_UTF_16"},
        {"file": TOWN},
    ),
    "a.jsonl.zst": (
        zstd('{"name": "Zürich", "people": 420000}\n{"name": "Bern", "people": 135000}\n'.encode()),
        {"format": "FILE_FORMAT_JSON_LINES", "compression": "FILE_COMPRESSION_ZSTD"},
        {"json": TOWN},
    ),
    "a.json": (
        '[{"name": "Zürich", "people": 420000},\n {"name": "Bern", "people": 135000}]'.encode(),
        {"format": "FILE_FORMAT_JSON"},
        {"json": TOWN},
    ),
    "a.parquet": (
        parquet({"name": ["Zürich", "Bern"], "people": [420000, 135000]}),
        {"format": "FILE_FORMAT_PARQUET"},
        {"file": TOWN},
    ),
}


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    for name, (data, _, _) in FILES.items():
        places.write(home, name, "").write_bytes(data)
    async with house(home, "data") as running:
        yield running


@pytest.mark.parametrize("name", FILES)
async def test_a_file_is_previewed_tested_and_extracted(running: House, name: str) -> None:
    tenant, (_, described, rule) = Tenant(running), FILES[name]
    files = {"files": {"pattern": name, **described}}
    shown = await tenant.stub(SourcesStub).PreviewSource(ParseDict(files, pb.PreviewSourceRequest()))
    assert [dict(record) for record in shown.records] in (
        [{"name": "Zürich", "people": 420000}, {"name": "Bern", "people": 135000}],
        [{"name": "Zürich", "people": "420000"}, {"name": "Bern", "people": "135000"}],
    )
    assert not shown.HasField("suggested")
    await tenant.rule("towns", files, rule)
    source = await tenant.stub(SourcesStub).GetSource(pb.GetSourceRequest(source="towns"))
    assert described.items() <= MessageToDict(source.files).items()
    trial = await tenant.stub(RulesStub).TestRule(rules_pb2.TestRuleRequest(rule="towns"))
    assert [dict(row) for row in trial.rows] == [
        {"name": "Zürich", "people": 420000},
        {"name": "Bern", "people": 135000},
    ]
    done = await tenant.extract("towns")
    assert (done.rows_accepted, done.rows_quarantined) == (2, 0)
    assert (await tenant.extract("towns")).records_read == 0


async def test_a_preview_says_how_the_file_seems_to_be_written(running: House, home: Path) -> None:
    places.write(home, "b.csv", "").write_bytes(TOWNS.encode("latin-1"))
    stub = running.stub(SourcesStub, "data")
    shown = await stub.PreviewSource(
        pb.PreviewSourceRequest(files=pb.FilesSource(pattern="b.csv", format=pb.FILE_FORMAT_CSV, null_values=["-"]))
    )
    assert MessageToDict(shown.suggested) == {
        "pattern": "b.csv",
        "format": "FILE_FORMAT_CSV",
        "delimiter": ";",
        "encoding": "FILE_ENCODING_LATIN_1",
        "nullValues": ["-"],
    }
    again = await stub.PreviewSource(pb.PreviewSourceRequest(files=shown.suggested))
    assert [dict(record)["name"] for record in again.records] == ["Zürich", "Bern"]
    assert not again.HasField("suggested")


async def test_a_file_that_cannot_be_read_says_what_it_looks_like(running: House) -> None:
    files = pb.FilesSource(pattern="a.json", format=pb.FILE_FORMAT_PARQUET)
    failure = await refused(running.stub(SourcesStub, "data").PreviewSource(pb.PreviewSourceRequest(files=files)))
    assert failure.code is Code.FAILED_PRECONDITION
    assert failure.detail == ("a.json: the file is not a Parquet file, or not complete; the file looks like json")


@pytest.mark.parametrize(
    ("described", "says"),
    [
        ({"delimiter": "'", "quote": "'"}, "delimiter, quote and escape must be different characters"),
        ({"escape": '"'}, "delimiter, quote and escape must be different characters"),
        ({"quote": "\n"}, "the quote must not be the end of a line"),
        ({"quote": "'", "unquoted": True}, "unquoted files have no quote"),
        ({"encoding": 77}, "the encoding is not known"),
        ({"escape": "ab"}, "must have at most 1 characters"),
    ],
)
async def test_a_dialect_that_cannot_be_is_refused(running: House, described: dict[str, Any], says: str) -> None:
    files = pb.FilesSource(pattern="a.csv.gz", format=pb.FILE_FORMAT_CSV, **described)
    failure = await refused(
        running.stub(SourcesStub, "data").CreateSource(pb.CreateSourceRequest(source="a", files=files))
    )
    assert (failure.code, says in failure.detail) == (Code.INVALID_VALUE, True), failure.detail


async def test_a_bomb_is_refused_and_nothing_is_kept(running: House, home: Path) -> None:
    places.write(home, "bomb.gz", "").write_bytes(gzip.compress(bytes(100 * 2**20)))
    tenant = Tenant(running)
    rule = {"regex": {"pattern": "(?P<a>.*)", "columns": [{"name": "a", "type": "COLUMN_TYPE_STRING"}]}}
    await tenant.rule("bomb", {"files": {"pattern": "bomb.gz", "format": "FILE_FORMAT_TEXT"}}, rule)
    done = await tenant.ended((await tenant.begin("bomb")).operation)
    assert done.error.detail.startswith("bomb.gz unpacks to more than 200 times its size")
