"""Masked columns: what callers see who may not unmask them, wherever rows and what is known of them leave."""

import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToJson

from aimass.v1 import data_events_pb2, expectations_pb2, features_pb2, pipelines_pb2
from aimass.v1 import datasets_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.expectations_pb2_grpc import ExpectationsStub
from aimass.v1.features_pb2_grpc import FeatureSetsStub
from aimass.v1.pipelines_pb2_grpc import PipelinesStub
from services.kit.errors import Code
from tests.data.tables import add
from tests.support.house import House, house
from tests.support.refused import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")
SECRET = "4711secret"
ROWS = {
    "id": [1, 2, 3],
    "Ssn": [SECRET, "x", None],
    "pay": [47110.25, math.nan, 3.0],
    "late": [0, 1, 0],
    "age": [1, 2, 3],
}
# What one may have who works with the data.
SOME = (
    "data_sets.read",
    "data_sets.get",
    "data_sets.list",
    "data_sets.restore",
    "expectations.*",
    "pipelines.*",
    "feature_sets.*",
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house(tmp_path_factory.mktemp("masks"), "data") as running:
        await add(running, "people", ROWS, broken=[(f'{{"ssn": "{SECRET}"}}', "bad", "db:1")])
        all_seeing = running.stub(DataSetsStub, "data")
        await mask(all_seeing, "SSN", "pay", "not_there_yet")
        await add(running, "people", ROWS | {"id": [1, 2, 4]}, broken=[(f'{{"ssn": "{SECRET}"}}', "bad", "db:1")])
        yield running


async def mask(stub: Any, *columns: str, data_set: str = "people") -> Any:
    etag = (await stub.GetDataSet(pb.GetDataSetRequest(data_set=data_set))).etag
    return await stub.MaskColumns(
        pb.MaskColumnsRequest(data_set=data_set, columns=columns), metadata=[("if-match", etag)]
    )


def told(answer: Any) -> bool:
    """Whether an answer tells one of the masked values."""
    text = MessageToJson(answer)
    return SECRET in text or "47110" in text


PEOPLE = pb.QueryTable(data_set="people")
SELECTS = [
    "SELECT * FROM people",
    'SELECT max("Ssn") AS a, max(pay) AS b, count(pay) AS n FROM people',
    'SELECT p."Ssn" AS s FROM people AS p JOIN people AS q ON p.id = q.id',
    f"SELECT id FROM people WHERE \"Ssn\" = '{SECRET}' AND id = 1",
    "WITH x AS (SELECT pay AS y FROM people) SELECT sum(y) AS s FROM x",
]
ANSWERS: dict[str, Any] = {
    "rows": ("ReadRows", pb.ReadRowsRequest(data_set="people")),
    "one column": ("ReadRows", pb.ReadRowsRequest(data_set="people", version=1, columns=["Ssn"])),
    "version": ("GetDataSetVersion", pb.GetDataSetVersionRequest(data_set="people")),
    "versions": ("ListDataSetVersions", pb.ListDataSetVersionsRequest(data_set="people")),
    "quarantine": ("ListQuarantine", pb.ListQuarantineRequest(data_set="people")),
    "diff": ("DiffDataSet", pb.DiffDataSetRequest(data_set="people", key=["id"])),
    "lineage": ("ExportLineage", pb.ExportLineageRequest(data_set="people")),
} | {f"query {n}": ("QueryDataSets", pb.QueryDataSetsRequest(sql=s, tables=[PEOPLE])) for n, s in enumerate(SELECTS)}


@pytest.mark.parametrize("name", ANSWERS)
async def test_nothing_tells_a_masked_value_to_who_may_not_unmask_it(home: House, name: str) -> None:
    method, request = ANSWERS[name]
    answer = await getattr(home.stub(DataSetsStub, "data", *SOME), method)(request)
    seen = await getattr(home.stub(DataSetsStub, "data"), method)(request)

    assert not told(answer)
    if name != "lineage":
        assert answer != seen, "who may unmask sees it"
    if method == "ReadRows":
        assert {row["Ssn"] for row in answer.rows} == {None}
        assert SECRET in [row["Ssn"] for row in seen.rows]


async def test_masked_columns_are_null_of_their_own_type_in_queries(home: House) -> None:
    stub = home.stub(DataSetsStub, "data", *SOME)
    found = await stub.QueryDataSets(pb.QueryDataSetsRequest(sql=SELECTS[0], tables=[PEOPLE]))
    whole = await home.stub(DataSetsStub, "data").QueryDataSets(
        pb.QueryDataSetsRequest(sql=SELECTS[0], tables=[PEOPLE])
    )
    under = pb.QueryDataSetsRequest(sql='SELECT * FROM "__masked_people"', tables=[PEOPLE])

    assert found.schema == whole.schema
    assert [dict(row) for row in found.rows] == [
        {"id": number, "Ssn": None, "pay": None, "late": late, "age": age}
        for number, late, age in ((1, 0, 1), (2, 1, 2), (4, 0, 3))
    ]
    assert (await refused(stub.QueryDataSets(under))).code is Code.SQL_NOT_ALLOWED


async def test_events_tell_nobody_masked_values(home: House) -> None:
    heard = await home.heard(data_events_pb2.DataSetVersionAdded, 2)

    assert [told(event) for event in heard] == [True, False]  # the first was before the mask


async def test_expectations_tell_no_masked_value_and_are_set_by_who_sees_it(home: House) -> None:
    seeing, stub = home.stub(ExpectationsStub, "data"), home.stub(ExpectationsStub, "data", *SOME)
    learn = expectations_pb2.LearnExpectationsRequest(data_set="people")
    item = expectations_pb2.Expectation(
        column="pay",
        kind=expectations_pb2.EXPECTATION_KIND_RANGE,
        action=expectations_pb2.EXPECTATION_ACTION_WARN,
        maximum="47110",
    )
    wanted = expectations_pb2.SetExpectationsRequest(data_set="people", expectations=[item])
    get = expectations_pb2.GetExpectationsRequest(data_set="people")

    assert (await refused(stub.SetExpectations(wanted))).code is Code.FORBIDDEN
    await seeing.SetExpectations(wanted)
    assert (told(await seeing.GetExpectations(get)), told(await stub.GetExpectations(get))) == (True, False)
    assert not told(await stub.LearnExpectations(learn))


async def test_what_is_made_of_masked_columns_is_made_by_who_sees_them(home: House) -> None:
    pipelines, feature_sets = (home.stub(kind, "data", *SOME) for kind in (PipelinesStub, FeatureSetsStub))
    step = pipelines_pb2.PipelineStep(data_set="copy", sql="SELECT * FROM people", inputs=["people"])
    await pipelines.CreatePipeline(pipelines_pb2.CreatePipelineRequest(pipeline="copy", steps=[step]))
    run = pipelines_pb2.RunPipelineRequest(pipeline="copy")
    assert (await refused(pipelines.RunPipeline(run))).detail == (
        "columns of people are masked: data_sets.unmask is not permitted"
    )
    assert await home.stub(PipelinesStub, "data").RunPipeline(run)
    for column, name in (("pay", "masked"), ("age", "plain")):
        steps = [features_pb2.FeatureStep(column=column, transform=features_pb2.TRANSFORM_IDENTITY)]
        await feature_sets.CreateFeatureSet(
            features_pb2.CreateFeatureSetRequest(
                feature_set=name, data_set="people", label="late", key="id", steps=steps
            )
        )
    fit = features_pb2.FitFeatureSetRequest(feature_set="masked")
    assert (await refused(feature_sets.FitFeatureSet(fit))).code is Code.FORBIDDEN
    assert await feature_sets.FitFeatureSet(features_pb2.FitFeatureSetRequest(feature_set="plain"))


async def test_a_mask_is_set_by_who_sees_the_values_and_taken_off(home: House) -> None:
    await add(home, "others", {"id": [1], "name": [SECRET]})
    seeing, stub = home.stub(DataSetsStub, "data"), home.stub(DataSetsStub, "data", *SOME)
    rows = pb.ReadRowsRequest(data_set="others")
    made = await mask(seeing, "name", "name", data_set="others")

    assert (list(made.masked_columns), told(await stub.ReadRows(rows))) == (["name"], False)
    assert (await refused(mask(stub, data_set="others"))).code is Code.FORBIDDEN
    assert (await refused(mask(seeing, "", data_set="others"))).violations[0].pointer == "/columns/0"
    await add(home, "others", {"id": [1], "NAME": [SECRET]})
    assert not told(await stub.ReadRows(rows)), "its case does not count"
    etag = (await seeing.GetDataSet(pb.GetDataSetRequest(data_set="others"))).etag
    restored = await stub.RollBackDataSet(
        pb.RollBackDataSetRequest(data_set="others", version=1), metadata=[("if-match", etag)]
    )
    assert not told(restored)
    await mask(seeing, data_set="others")
    assert told(await stub.ReadRows(rows))
