"""What data sets are about, how they are found, and which changes of their columns they refuse."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from aimass.v1 import datasets_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from services.data.datasets.evolution import SchemaChange, schema_changes
from services.data.schema import Column, ColumnType
from services.kit.errors import Code, Failure
from tests.data.tables import SCOPE, add, data_sets
from tests.support.house import House, house
from tests.support.refused import refused

INT, TEXT = ColumnType.INT64, ColumnType.STRING
FLIGHTS = {"id": [1, 2], "carrier": ["UA", "DL"]}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, "data") as running:
        yield running


@pytest.fixture
def stub(home: House) -> Any:
    return home.stub(DataSetsStub, "data")


async def update(stub: Any, data_set: str = "flights", etag: str = "", **values: Any) -> Any:
    etag = etag or (await stub.GetDataSet(pb.GetDataSetRequest(data_set=data_set))).etag
    request = pb.UpdateDataSetRequest(data_set=data_set, **values)
    return await stub.UpdateDataSet(request, metadata=[("if-match", etag)])


async def names(stub: Any, query: str) -> list[str]:
    found = await stub.SearchCatalogue(pb.SearchCatalogueRequest(query=query))
    return [data_set.data_set for data_set in found.data_sets]


async def test_a_data_set_says_what_it_is_about_and_who_owns_it(home: House, stub: Any) -> None:
    await add(home, "flights", FLIGHTS)
    made = await update(stub, description="Departures from New York", owner="ops@example.org")
    await add(home, "flights", FLIGHTS)
    found = await stub.GetDataSet(pb.GetDataSetRequest(data_set="flights"))

    assert (made.description, made.owner) == ("Departures from New York", "ops@example.org")
    assert (found.description, found.owner, found.latest_version) == (made.description, made.owner, 2)
    bare = await update(stub, owner="", update_mask=FieldMask(paths=["owner"]))
    assert (bare.owner, bare.description) == ("", "Departures from New York")
    assert (await refused(update(stub, etag="1", owner="me"))).code is Code.ETAG_MISMATCH
    assert (await refused(update(stub, update_mask=FieldMask(paths=["latest_version"])))).code is Code.INVALID_VALUE
    assert (await refused(update(stub, refused_changes=[0]))).violations[0].pointer == "/refused_changes/0"
    assert (await refused(update(stub, owner="x" * 201))).violations[0].pointer == "/owner"


async def test_data_sets_are_found_by_what_is_said_of_them(home: House, stub: Any) -> None:
    await add(home, "flights", {"id": [1], "Dep_Delay": [2.0]})
    await add(home, "weather", {"id": [1], "wind_100%": [2.0]})
    await add(home, "planes", {"tail": ["N1"]})
    await update(stub, "weather", description="Wind and Straße, in New York", owner="Ada")
    await stub.SetDataSetTag(pb.SetDataSetTagRequest(data_set="flights", tag="gold"))

    for query, wanted in {
        "dep": ["flights"],
        "DEP_delay": ["flights"],
        "delay": ["flights"],
        "column:delay": [],
        "column:dep": ["flights"],
        "id": ["flights", "weather"],
        "id york": ["weather"],
        "STRASSE": ["weather"],
        "owner:ada": ["weather"],
        "tag:gold": ["flights"],
        "name:plan": ["planes"],
        "100%": ["weather"],
        "_%": [],
        "%": ["weather"],
        "tag": [],
        "other:id": [],
        "\x04id": ["flights", "weather"],
    }.items():
        assert await names(stub, query) == wanted, query
    for wrong in ("\x01 \x02", " ".join(map(str, range(11)))):
        assert (await refused(names(stub, wrong))).violations[0].pointer == "/query"


async def test_a_search_knows_what_changed_since_the_last(home: House, stub: Any) -> None:
    await add(home, "flights", {"id": [1]})
    assert await names(stub, "gate") == []
    await add(home, "flights", {"gate": ["A"]})
    assert (await names(stub, "gate"), await names(stub, "column:id")) == (["flights"], [])
    made = await stub.SetDataSetTag(pb.SetDataSetTagRequest(data_set="flights", tag="gold"))
    assert await names(stub, "gold") == ["flights"]
    gone = pb.DeleteDataSetTagRequest(data_set="flights", tag="gold")
    await stub.DeleteDataSetTag(gone, metadata=[("if-match", made.etag)])
    assert await names(stub, "gold") == []
    etag = (await stub.GetDataSet(pb.GetDataSetRequest(data_set="flights"))).etag
    await stub.DeleteDataSet(pb.DeleteDataSetRequest(data_set="flights"), metadata=[("if-match", etag)])
    assert await names(stub, "gate") == []


async def test_a_search_has_pages_and_a_tenant(home: House, stub: Any) -> None:
    for number in range(3):
        await add(home, f"t{number}", {"id": [1]})
    first = await stub.SearchCatalogue(pb.SearchCatalogueRequest(query="id", page_size=2))
    rest = pb.SearchCatalogueRequest(query="id", page_size=2, page_token=first.next_page_token)

    assert [found.data_set for found in (*first.data_sets, *(await stub.SearchCatalogue(rest)).data_sets)] == [
        "t0", "t1", "t2"
    ]  # fmt: skip
    assert await names(home.stub(DataSetsStub, "data", tenant="rival"), "id") == []


def test_each_change_of_columns_has_a_name() -> None:
    before = [Column("a", INT, False), Column("b", INT), Column("c", TEXT, False), Column("d", INT)]
    after = [Column("a", INT, True), Column("b", TEXT), Column("c", TEXT, False), Column("e", INT)]

    assert [change for change, _ in schema_changes(before, after)] == [
        SchemaChange.ALLOW_NULL,
        SchemaChange.CHANGE_TYPE,
        SchemaChange.DROP_COLUMN,
        SchemaChange.ADD_COLUMN,
    ]
    assert list(schema_changes(before, before)) == []
    assert list(schema_changes([Column("a", INT, True)], [Column("a", INT, False)])) == []


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("ADD_COLUMN", {"id": [3], "carrier": ["AA"], "gate": ["A"]}, "the new rows have a column gate, which is new"),
    ("DROP_COLUMN", {"id": [3]}, "the new rows have no column carrier"),
    ("CHANGE_TYPE", {"id": ["3"], "carrier": ["AA"]}, "the column id holds int64, the new rows have string"),
]


@pytest.mark.parametrize(("change", "rows", "said"), REFUSED, ids=[change for change, _, _ in REFUSED])
async def test_a_change_that_is_refused_is_named(
    home: House, stub: Any, change: str, rows: dict[str, Any], said: str
) -> None:
    await add(home, "flights", FLIGHTS)
    await add(home, "flights", rows)  # nothing is refused yet
    etag = (await stub.GetDataSet(pb.GetDataSetRequest(data_set="flights"))).etag
    back = pb.RollBackDataSetRequest(data_set="flights", version=1)
    made = await update(stub, etag=etag, refused_changes=[f"SCHEMA_CHANGE_{change}"] * 2)
    await stub.RollBackDataSet(back, metadata=[("if-match", made.etag)])  # whatever that changes

    for append in (False, True):
        with pytest.raises(Failure, match=f"the data set flights refuses {change.lower()}: {said}"):
            await add(home, "flights", rows, append=append)
    columns = [Column(name, TEXT if isinstance(values[0], str) else INT) for name, values in rows.items()]
    with pytest.raises(Failure, match=change.lower()):
        await data_sets(home).check_columns(SCOPE, "flights", columns)
    assert (await add(home, "flights", FLIGHTS, append=True)).rows == 4
