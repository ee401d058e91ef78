from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict

from aimass.v1 import sources_pb2 as pb
from aimass.v1.data_events_pb2 import SourceChanged
from aimass.v1.schema_pb2 import ColumnType
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.kit.errors import Code
from tests.data import places
from tests.support.house import House, house
from tests.support.refused import refused

SQL = pb.SqlSource(url="sqlite:///flights.db", table="flights", cursor="id")
CSV = pb.FilesSource(pattern="weather/*.csv", format=pb.FILE_FORMAT_CSV, null_values=["NA"])


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    places.flights(home)
    places.write(home, "weather/JFK.csv", "origin,temp,hour\nJFK,1.5,2013-01-01 10:00:00\nJFK,NA,2013-01-01 11:00:00\n")
    async with house(home, "data") as running:
        yield running


@pytest.fixture
def sources(running: House) -> Any:
    return running.stub(SourcesStub, "data")


async def test_a_source_is_read_back_and_told(running: House, sources: Any) -> None:
    made = await sources.CreateSource(pb.CreateSourceRequest(source="flights-db", description="all of them", sql=SQL))

    assert made == await sources.GetSource(pb.GetSourceRequest(source="flights-db"))
    assert made.sql == SQL
    assert made.etag == "1"
    (told,) = await running.heard(SourceChanged)
    assert (told.source, told.generation) == (made, 1)


async def test_another_tenant_does_not_see_a_source(running: House, sources: Any) -> None:
    await sources.CreateSource(pb.CreateSourceRequest(source="flights-db", sql=SQL))
    other = running.stub(SourcesStub, "data", tenant="umbrella", if_match="1")

    for call in (
        other.GetSource(pb.GetSourceRequest(source="flights-db")),
        other.PreviewSource(pb.PreviewSourceRequest(source="flights-db")),
        other.DeleteSource(pb.DeleteSourceRequest(source="flights-db")),
        other.UpdateSource(pb.UpdateSourceRequest(source="flights-db", description="mine")),
        other.UndeleteSource(pb.UndeleteSourceRequest(source="flights-db")),
    ):
        assert (await refused(call)).code is Code.NOT_FOUND
    assert not (await other.ListSources(pb.ListSourcesRequest())).sources


async def test_another_tenants_files_are_not_there(running: House, sources: Any) -> None:
    other = running.stub(SourcesStub, "data", tenant="umbrella")

    assert (await refused(other.CreateSource(pb.CreateSourceRequest(source="a", sql=SQL)))).code is Code.INVALID_VALUE


async def test_a_name_is_taken_once(sources: Any) -> None:
    await sources.CreateSource(pb.CreateSourceRequest(source="a", files=CSV))

    failure = await refused(sources.CreateSource(pb.CreateSourceRequest(source="a", files=CSV)))
    assert (failure.code, failure.detail) == (Code.ALREADY_EXISTS, "the source a exists already")


async def test_a_repeat_answers_the_same_even_when_the_file_has_gone(running: House, home: Path) -> None:
    keyed = running.stub(SourcesStub, "data", idempotency_key="k1")
    request = pb.CreateSourceRequest(source="a", files=CSV)
    first = await keyed.CreateSource(request)
    (places.folder(home) / "weather/JFK.csv").unlink()

    assert await keyed.CreateSource(request) == first


async def test_an_update_changes_what_the_mask_names(running: House, sources: Any) -> None:
    await sources.CreateSource(pb.CreateSourceRequest(source="a", description="old", sql=SQL))
    seen = running.stub(SourcesStub, "data", if_match='"1"')

    mask = FieldMask(paths=["description"])
    changed = await seen.UpdateSource(
        pb.UpdateSourceRequest(source="a", description="new", files=CSV, update_mask=mask)
    )

    assert (changed.description, changed.sql, changed.etag) == ("new", SQL, "2")
    stale = await refused(seen.UpdateSource(pb.UpdateSourceRequest(source="a", description="newer")))
    assert stale.code is Code.ETAG_MISMATCH


@pytest.mark.parametrize("paths", [["files"], ["source"], ["etag"]])
async def test_a_mask_that_does_not_fit_is_refused(running: House, sources: Any, paths: list[str]) -> None:
    await sources.CreateSource(pb.CreateSourceRequest(source="a", sql=SQL))
    seen = running.stub(SourcesStub, "data", if_match="1")

    request = pb.UpdateSourceRequest(source="a", sql=SQL, update_mask=FieldMask(paths=paths))
    assert (await refused(seen.UpdateSource(request))).code is Code.INVALID_VALUE


async def test_an_update_to_a_place_that_cannot_be_opened_is_refused(running: House, sources: Any) -> None:
    await sources.CreateSource(pb.CreateSourceRequest(source="a", sql=SQL))
    seen = running.stub(SourcesStub, "data", if_match="1")

    files = pb.FilesSource(pattern="none.csv", format=pb.FILE_FORMAT_CSV)
    failure = await refused(seen.UpdateSource(pb.UpdateSourceRequest(source="a", files=files)))
    assert (failure.code, failure.detail) == (Code.INVALID_VALUE, "there is no none.csv")


async def test_every_change_of_a_source_is_told(running: House, sources: Any) -> None:
    seen = running.stub(SourcesStub, "data", if_match="*")
    await sources.CreateSource(pb.CreateSourceRequest(source="a", sql=SQL))
    mask = FieldMask(paths=["description"])
    await seen.UpdateSource(pb.UpdateSourceRequest(source="a", description="new", update_mask=mask))
    await seen.DeleteSource(pb.DeleteSourceRequest(source="a"))
    await seen.UndeleteSource(pb.UndeleteSourceRequest(source="a"))
    told = await running.heard(SourceChanged, 4)

    assert [one.generation for one in told] == [1, 2, 3, 4]
    assert [one.source.description for one in told] == ["", "new", "new", "new"]
    assert [one.source.HasField("delete_time") for one in told] == [False, False, True, False]


async def test_a_deleted_source_is_hidden_and_comes_back(running: House, sources: Any) -> None:
    await sources.CreateSource(pb.CreateSourceRequest(source="a", sql=SQL))
    seen = running.stub(SourcesStub, "data", if_match="1")

    assert (await seen.DeleteSource(pb.DeleteSourceRequest(source="a"))).HasField("delete_time")
    assert (await refused(sources.GetSource(pb.GetSourceRequest(source="a")))).code is Code.NOT_FOUND
    assert not (await sources.ListSources(pb.ListSourcesRequest())).sources
    assert len((await sources.ListSources(pb.ListSourcesRequest(show_deleted=True))).sources) == 1
    again = await refused(sources.CreateSource(pb.CreateSourceRequest(source="a", sql=SQL)))
    assert again.code is Code.ALREADY_EXISTS
    back = await sources.UndeleteSource(pb.UndeleteSourceRequest(source="a"))
    assert back == await sources.UndeleteSource(pb.UndeleteSourceRequest(source="a"))
    assert (back.HasField("delete_time"), back.etag) == (False, "3")


async def test_sources_are_listed_by_name_in_pages(sources: Any) -> None:
    for name in ("c", "a", "b"):
        await sources.CreateSource(pb.CreateSourceRequest(source=name, files=CSV))

    first = await sources.ListSources(pb.ListSourcesRequest(page_size=2))
    second = await sources.ListSources(pb.ListSourcesRequest(page_size=2, page_token=first.next_page_token))

    assert [source.source for source in (*first.sources, *second.sources)] == ["a", "b", "c"]
    assert not second.next_page_token


async def test_a_restart_keeps_sources(home: Path) -> None:
    places.flights(home)
    async with house(home, "data") as running:
        made = await running.stub(SourcesStub, "data").CreateSource(pb.CreateSourceRequest(source="a", sql=SQL))
    async with house(home, "data") as running:
        assert await running.stub(SourcesStub, "data").GetSource(pb.GetSourceRequest(source="a")) == made


async def test_a_preview_of_a_table_shows_records_and_types(sources: Any) -> None:
    shown = await sources.PreviewSource(pb.PreviewSourceRequest(sql=SQL, records=2))

    assert [MessageToDict(record)["id"] for record in shown.records] == [1, 2]
    types = {column.name: ColumnType.Name(column.type).removeprefix("COLUMN_TYPE_") for column in shown.schema.columns}
    assert types == {"id": "INT64", "carrier": "STRING", "dep_delay": "DOUBLE", "time_hour": "TIMESTAMP"}
    assert list(shown.parts) == ["flights"]


async def test_a_preview_of_csv_knows_missing_values(sources: Any) -> None:
    await sources.CreateSource(pb.CreateSourceRequest(source="weather", files=CSV))
    shown = await sources.PreviewSource(pb.PreviewSourceRequest(source="weather"))

    assert MessageToDict(shown.records[1]) == {"origin": "JFK", "temp": "NA", "hour": "2013-01-01 11:00:00"}
    columns = [(c.name, ColumnType.Name(c.type).removeprefix("COLUMN_TYPE_"), c.nullable) for c in shown.schema.columns]
    assert columns == [("origin", "STRING", False), ("temp", "DOUBLE", True), ("hour", "TIMESTAMP", False)]
    assert list(shown.parts) == ["weather/JFK.csv"]


async def test_a_preview_of_json_and_text_shows_what_is_there(sources: Any, home: Path) -> None:
    places.write(home, "planes.jsonl", '{"tailnum": "N1", "engine": {"count": 2}, "big": 9007199254740993}\nbroken\n')
    places.write(home, "access.log", "first\nsecond\nunfinished")

    planes = pb.FilesSource(pattern="planes.jsonl", format=pb.FILE_FORMAT_JSON_LINES)
    (record,) = (await sources.PreviewSource(pb.PreviewSourceRequest(files=planes))).records
    assert MessageToDict(record) == {"tailnum": "N1", "engine": {"count": 2.0}, "big": "9007199254740993"}
    log = pb.FilesSource(pattern="access.log", format=pb.FILE_FORMAT_TEXT)
    shown = await sources.PreviewSource(pb.PreviewSourceRequest(files=log))
    assert [MessageToDict(record) for record in shown.records] == [{"line": "first"}, {"line": "second"}]


@pytest.mark.parametrize(
    "request_",
    [
        pb.PreviewSourceRequest(),
        pb.PreviewSourceRequest(source="a", sql=SQL),
        pb.PreviewSourceRequest(sql=SQL, records=101),
    ],
)
async def test_a_preview_of_nothing_of_two_or_of_too_much_is_refused(sources: Any, request_: Any) -> None:
    assert (await refused(sources.PreviewSource(request_))).code is Code.INVALID_VALUE


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (
            "mysql://db/flights",
            "databases of kind mysql are not supported: write sqlite:///file.db or postgresql://user@host/database",
        ),
        ("sqlite://user:secret@host/flights.db", "the URL must not hold credentials"),
        ("sqlite:///:memory:", "the URL must name a file and nothing else: sqlite:///file.db"),
        ("sqlite:///flights.db?mode=rw", "the URL must name a file and nothing else: sqlite:///file.db"),
        ("sqlite:///../flights.db", "the path must not contain empty steps, . or .."),
        ("sqlite:///weather/JFK.csv", "weather/JFK.csv cannot be read: file is not a database"),
    ],
)
async def test_a_url_that_cannot_be_is_refused(sources: Any, url: str, says: str) -> None:
    sql = pb.SqlSource(url=url, table="flights", cursor="id")
    failure = await refused(sources.CreateSource(pb.CreateSourceRequest(source="a", sql=sql)))
    assert (failure.code, failure.detail) == (Code.INVALID_VALUE, says)


@pytest.mark.parametrize(
    ("table", "cursor", "says"),
    [
        ("planes", "id", "there is no table planes"),
        ("sqlite_master", "name", "there is no table sqlite_master"),
        ("flights", "tail", "flights has no column tail"),
        ("flights", "carrier", "the cursor carrier is not unique: it needs a primary key or a unique index"),
    ],
)
async def test_a_cursor_must_be_a_unique_column_of_a_table(sources: Any, table: str, cursor: str, says: str) -> None:
    sql = pb.SqlSource(url="sqlite:///flights.db", table=table, cursor=cursor)
    assert (await refused(sources.CreateSource(pb.CreateSourceRequest(source="a", sql=sql)))).detail == says


async def test_operators_open_further_folders(home: Path) -> None:
    for name in ("all", "acme", "umbrella"):
        (home / name).mkdir()
        (home / name / "a.log").write_text("line\n")
    roots = f"{home}/{{tenant}}:{home}/all"
    async with house(home, "data", AIMASS_DATA_FILE_ROOTS=roots) as running:
        sources = running.stub(SourcesStub, "data")
        for pattern in ("a.log", f"{home}/acme/a.log", f"{home}/all/*.log"):
            log = pb.FilesSource(pattern=pattern, format=pb.FILE_FORMAT_TEXT)
            assert len((await sources.PreviewSource(pb.PreviewSourceRequest(files=log))).records) == 1
        foreign = pb.FilesSource(pattern=f"{home}/umbrella/a.log", format=pb.FILE_FORMAT_TEXT)
        failure = await refused(sources.PreviewSource(pb.PreviewSourceRequest(files=foreign)))
        assert failure.code is Code.EGRESS_DENIED


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "10.1.2.3", "169.254.169.254", "[::1]", "2130706433", "127.1", "0x7f.1"]
)
async def test_a_database_on_a_private_address_is_not_reached(sources: Any, host: str) -> None:
    sql = pb.SqlSource(url=f"postgresql://reader@{host}:5432/d", table="t", cursor="id", password="secret-word")
    for call in (
        sources.CreateSource(pb.CreateSourceRequest(source="a", sql=sql)),
        sources.PreviewSource(pb.PreviewSourceRequest(sql=sql)),
    ):
        failure = await refused(call)
        assert failure.code in (Code.EGRESS_DENIED, Code.UNAVAILABLE)
        assert "secret-word" not in failure.detail
