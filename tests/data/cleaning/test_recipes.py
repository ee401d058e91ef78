"""Recipes through their RPCs, with real children."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict, MessageToJson

from aimass.v1 import data_events_pb2, operations_pb2, schema_pb2
from aimass.v1 import datasets_pb2 as data
from aimass.v1 import recipes_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.recipes_pb2_grpc import RecipesStub
from services.kit.errors import Code, Failure
from tests.data.cleaning.recipes import RAW, STEPS, create, ended, run
from tests.data.tables import add
from tests.support.house import House, house, until
from tests.support.refused import code_of, refused


@pytest.fixture
async def home(home: Path) -> AsyncIterator[House]:
    async with house(home, "data") as running:
        await add(running, "raw", RAW)
        yield running


@pytest.fixture
def stub(home: House) -> Any:
    return home.stub(RecipesStub, "data")


@pytest.fixture
def tables(home: House) -> Any:
    return home.stub(DataSetsStub, "data")


async def rows(tables: Any, name: str = "clean", version: int = 0) -> list[dict[str, Any]]:
    return [dict(row) for row in (await tables.ReadRows(data.ReadRowsRequest(data_set=name, version=version))).rows]


async def test_a_recipe_makes_a_clean_version_and_says_what_it_did(home: House, stub: Any, tables: Any) -> None:
    made = await create(home)
    done = await run(home)

    assert [step.step for step in made.steps] == ["missing", "numbers", "once", "heavy", "fill", "offices"]
    assert await rows(tables) == [
        {"id": "1", "weight": 1.5, "office": "Oslo"},
        {"id": "2", "weight": 2.5, "office": "Moss"},
        {"id": "3", "weight": 2.0, "office": "?"},
        {"id": "6", "weight": 2.0, "office": "Oslo"},
    ]
    assert (done.rows_in, done.rows_out, done.quarantined, done.duplicates) == (7, 4, 2, 1)
    found = await tables.GetDataSetVersion(data.GetDataSetVersionRequest(data_set="clean"))
    quality = found.quality
    assert dict(quality.quarantined) == {"numbers: weight is no double": 1, "heavy: weight is an outlier": 1}
    assert dict(quality.excluded) == {"once: duplicate": 1}
    assert [(node.kind, node.name, node.version) for node in found.parents] == [
        ("data_set", "raw", 1),
        ("recipe", "tidy", 1),
    ]
    aside = (await tables.ListQuarantine(data.ListQuarantineRequest(data_set="clean"))).rows
    assert [(row.record, row.origin) for row in aside] == [
        ('{"id":"5","weight":"heavy","office":"Oslo"}', "raw:5"),
        ('{"id":"7","weight":"900","office":"Moss"}', "raw:7"),
    ]
    fill = MessageToDict(done.steps[4])
    assert fill["columns"] == [
        {"column": "weight", "changed": "1", "examples": [{"row": "3", "before": None, "after": 2.0}]}
    ]
    recipe = await stub.GetRecipe(pb.GetRecipeRequest(recipe="tidy"))
    assert [(v.column, v.name, v.value) for v in recipe.learned[4].values] == [("weight", "mean", "2.0")]
    assert recipe.learned_from == 1


async def test_later_runs_do_to_new_rows_what_the_first_has_learned(home: House, stub: Any, tables: Any) -> None:
    await create(home)
    first = await run(home)
    await add(home, "raw", {"id": ["8", "9"], "weight": ["700", "-"], "office": ["A", "B"]})
    second = await run(home)
    again = await run(home, data_set_version=1)

    assert (first.output_version, second.output_version, again.output_version) == (1, 2, 3)
    assert await rows(tables, version=2) == [{"id": "9", "weight": 2.0, "office": "B"}]
    assert await rows(tables, version=1) == await rows(tables, version=3)
    assert (second.data_set_version, again.data_set_version) == (2, 1)
    extended = await stub.CreateRecipeVersion(pb.CreateRecipeVersionRequest(recipe="tidy", steps=STEPS[:2]))
    assert (extended.version, extended.learned_from) == (2, 0)
    older = await stub.GetRecipe(pb.GetRecipeRequest(recipe="tidy", version=1))
    assert (list(older.steps), older.learned_from) == (STEPS, 1)
    assert (await run(home, version=1)).rows_out == 1
    assert (await run(home)).rows_out == 2
    runs = await stub.ListRecipeRuns(pb.ListRecipeRunsRequest(recipe="tidy", page_size=4))
    rest = await stub.ListRecipeRuns(pb.ListRecipeRunsRequest(recipe="tidy", page_token=runs.next_page_token))
    assert [one.output_version for one in (*runs.runs, *rest.runs)] == [5, 4, 3, 2, 1]
    assert not any(one.steps for one in runs.runs)


async def test_a_recipe_may_write_the_data_set_that_it_reads(home: House, tables: Any) -> None:
    await create(home, STEPS[2], output="raw")
    done = await run(home)
    events = await tables.ExportLineage(data.ExportLineageRequest(data_set="raw", version=2))

    assert (done.output_version, done.duplicates) == (2, 1)
    assert [row["id"] for row in await rows(tables, "raw")] == ["1", "2", "3", "5", "6", "7"]
    assert [row["id"] for row in await rows(tables, "raw", 1)] == RAW["id"]
    assert events.events[0]["job"]["name"] == "recipes/tidy"


async def test_a_column_that_is_masked_stays_so_and_is_not_got_by_cleaning(home: House, tables: Any) -> None:
    etag = (await tables.GetDataSet(data.GetDataSetRequest(data_set="raw"))).etag
    masks = data.MaskColumnsRequest(data_set="raw", columns=["Weight"])
    await tables.MaskColumns(masks, metadata=[("if-match", etag)])
    mark = pb.HandleOutliers(columns=["weight"], method=pb.OUTLIER_METHOD_IQR, action=pb.OUTLIER_ACTION_MARK)
    await create(home, *STEPS[:2], pb.CleaningStep(step="mark", outliers=mark), STEPS[4])
    blind = home.stub(RecipesStub, "data", "recipes.*", "data_sets.read")

    assert await code_of(blind.RunRecipe(pb.RunRecipeRequest(recipe="tidy"))) is Code.FORBIDDEN
    proposal = pb.ProposeRecipeRequest(data_set="raw")
    assert await code_of(blind.ProposeRecipe(proposal)) is Code.FORBIDDEN
    preview = pb.PreviewRecipeRequest(data_set="raw", steps=STEPS[:2])
    assert await code_of(blind.PreviewRecipe(preview)) is Code.FORBIDDEN
    done = await run(home)
    found = await tables.GetDataSet(data.GetDataSetRequest(data_set="clean"))
    assert list(found.masked_columns) == ["weight", "weight_outlier"]
    _, event = await home.heard(data_events_pb2.DataSetVersionAdded, 2)
    known = {column.column: (column.minimum, column.maximum) for column in event.version.quality.columns}
    assert (known["weight"], bool(known["id"][0])) == (("", ""), True), "who hears of it is not told masked values"
    blind_too = home.stub(OperationsStub, "data", "operations.*")
    answer = await blind_too.GetOperation(operations_pb2.GetOperationRequest(operation=done.operation))
    hidden = await blind.GetRecipeRun(pb.GetRecipeRunRequest(recipe="tidy", run=done.run))
    learned = (await blind.GetRecipe(pb.GetRecipeRequest(recipe="tidy"))).learned
    assert [column.changed for column in hidden.steps[1].columns] == [4]
    assert "examples" not in MessageToJson(hidden)
    assert '"changed"' in (told := MessageToJson(answer))
    assert "examples" not in told
    assert not any(step.values for step in learned)
    await tables.DeleteDataSet(data.DeleteDataSetRequest(data_set="clean"), metadata=[("if-match", found.etag)])
    gone = await blind.GetRecipeRun(pb.GetRecipeRunRequest(recipe="tidy", run=done.run))
    assert gone == hidden


async def test_spellings_of_a_masked_column_are_not_shown(home: House, stub: Any, tables: Any) -> None:
    etag = (await tables.GetDataSet(data.GetDataSetRequest(data_set="raw"))).etag
    masks = data.MaskColumnsRequest(data_set="raw", columns=["Office"])
    await tables.MaskColumns(masks, metadata=[("if-match", etag)])
    mapping = [pb.Spelling(**{"from": "Oslo", "to": "Kristiania"})]
    await create(home, step(spellings=pb.UnifySpellings(columns=["office"], mapping=mapping)))
    await create(home, STEPS[0], name="other")
    blind = home.stub(RecipesStub, "data", "recipes.*")
    seen, unseen = [
        [one.steps[0] for one in (await kind.ListRecipes(pb.ListRecipesRequest())).recipes] for kind in (stub, blind)
    ]

    assert [list(one.spellings.mapping) for one in seen] == [[], mapping]
    assert [list(one.spellings.mapping) for one in unseen] == [[], []]
    assert unseen[0] == seen[0] == STEPS[0]
    assert not (await blind.GetRecipe(pb.GetRecipeRequest(recipe="tidy"))).steps[0].spellings.mapping


async def test_a_preview_shows_what_steps_would_do_and_keeps_nothing(stub: Any, tables: Any) -> None:
    shown = await stub.PreviewRecipe(pb.PreviewRecipeRequest(data_set="raw", steps=STEPS))

    assert (shown.rows_in, shown.rows_out, shown.quarantined, shown.duplicates) == (7, 4, 2, 1)
    assert [(row.row, row.reason) for row in shown.rows] == [
        (1, ""), (2, ""), (3, ""), (4, "duplicate"), (5, "numbers: weight is no double"), (6, ""),
        (7, "heavy: weight is an outlier"),
    ]  # fmt: skip
    assert dict(shown.rows[2].before) == {"id": "3", "weight": "n/a", "office": None}
    assert dict(shown.rows[2].after) == {"id": "3", "weight": 2.0, "office": "?"}
    assert shown.schema.columns[1].type == schema_pb2.COLUMN_TYPE_DOUBLE
    assert await code_of(tables.GetDataSet(data.GetDataSetRequest(data_set="clean"))) is Code.NOT_FOUND
    for count in (-1, 10_001):
        wrong = pb.PreviewRecipeRequest(data_set="raw", steps=STEPS, rows=count)
        assert await code_of(stub.PreviewRecipe(wrong)) is Code.INVALID_VALUE
    assert await code_of(stub.PreviewRecipe(pb.PreviewRecipeRequest(data_set="none", steps=STEPS))) is Code.NOT_FOUND


def step(**kind: Any) -> pb.CleaningStep:
    return pb.CleaningStep(step="x", **kind)


MASK = FieldMask(paths=["refused_changes"])
DOUBLE, DATE, BOOL = (getattr(schema_pb2, f"COLUMN_TYPE_{name}") for name in ("DOUBLE", "DATE", "BOOL"))
WRONG: list[tuple[pb.CleaningStep, str]] = [
    (step(), "/steps/0"),
    (step(convert=pb.ConvertType(columns=["a"], type=schema_pb2.COLUMN_TYPE_STRING)), "/steps/0/convert/type"),
    (step(convert=pb.ConvertType(columns=["a"], type=99)), "/steps/0/convert"),  # type: ignore[arg-type]
    (step(convert=pb.ConvertType(columns=["a", "a"], type=DOUBLE)), "/steps/0/convert/columns/1"),
    (step(convert=pb.ConvertType(columns=["a"], type=DOUBLE, decimal_sign="1")), "/steps/0/convert/decimal_sign"),
    (step(convert=pb.ConvertType(columns=["a"], type=DOUBLE, thousands_sign=".")), "/steps/0/convert/thousands_sign"),
    (step(convert=pb.ConvertType(columns=["a"], type=BOOL, decimal_sign=",")), "/steps/0/convert/decimal_sign"),
    (step(convert=pb.ConvertType(columns=["a"], type=DATE, formats=["%Q"])), "/steps/0/convert/formats/0"),
    (step(convert=pb.ConvertType(columns=["a"], type=DATE, formats=["day %"])), "/steps/0/convert/formats/0"),
    (step(convert=pb.ConvertType(columns=["a"], type=DATE, formats=["day"])), "/steps/0/convert/formats/0"),
    (
        step(convert=pb.ConvertType(columns=["a"], type=schema_pb2.COLUMN_TYPE_TIMESTAMP, zone="../etc/passwd")),
        "/steps/0/convert/zone",
    ),
    (
        step(convert=pb.ConvertType(columns=["a"], type=BOOL, true_texts=["J"], false_texts=["j"])),
        "/steps/0/convert/false_texts",
    ),
    (
        step(fill_missing=pb.FillMissing(columns=["a"], method=pb.MISSING_METHOD_MEAN, value="1")),
        "/steps/0/fill_missing/value",
    ),
    (
        step(outliers=pb.HandleOutliers(columns=["a"], method=1, action=1, threshold=-1)),  # type: ignore[arg-type]
        "/steps/0/outliers/threshold",
    ),
    (
        step(outliers=pb.HandleOutliers(columns=["a"], method=1, action=1, threshold=float("nan"))),  # type: ignore[arg-type]
        "/steps/0/outliers/threshold",
    ),
]


async def test_steps_that_make_no_sense_are_refused_with_their_places(home: House) -> None:
    for wrong, pointer in WRONG:
        failure = await refused(create(home, wrong))
        assert (failure.code, failure.violations[0].pointer) == (Code.INVALID_VALUE, pointer)


FILL = pb.MISSING_METHOD_MEDIAN
UNFIT: list[tuple[pb.CleaningStep, str]] = [
    (step(find_missing=pb.FindMissing(columns=["other"])), "/steps/1/find_missing/columns/0"),
    (step(convert=pb.ConvertType(columns=["weight"], type=DATE)), "/steps/1/convert/columns/0"),
    (step(fill_missing=pb.FillMissing(columns=["office"], method=FILL)), "/steps/1/fill_missing/columns/0"),
    (
        step(fill_missing=pb.FillMissing(columns=["weight"], method=pb.MISSING_METHOD_CONSTANT, value="no")),
        "/steps/1/fill_missing/value",
    ),
    (step(outliers=pb.HandleOutliers(columns=["office"], method=1, action=1)), "/steps/1/outliers/columns/0"),  # type: ignore[arg-type]
    (step(duplicates=pb.RemoveDuplicates(key=["id"], order="office")), "/steps/1/duplicates/order"),
]


async def test_steps_that_do_not_fit_the_data_set_are_refused_when_they_run(home: House, stub: Any) -> None:
    for number, (unfit, pointer) in enumerate(UNFIT):
        await create(home, STEPS[1], unfit, name=f"r{number}")
        failure = await refused(stub.RunRecipe(pb.RunRecipeRequest(recipe=f"r{number}")))
        assert (failure.code, failure.violations[0].pointer) == (Code.INVALID_VALUE, pointer)


async def test_a_mark_that_is_there_already_and_a_step_twice_are_refused(home: House, stub: Any) -> None:
    await add(home, "raw", pa.table({"w": [1.0], "W_Outlier": [True]}))
    mark = pb.HandleOutliers(columns=["w"], method=pb.OUTLIER_METHOD_IQR, action=pb.OUTLIER_ACTION_MARK)
    await create(home, step(outliers=mark))
    failure = await refused(stub.RunRecipe(pb.RunRecipeRequest(recipe="tidy")))
    twice = await refused(create(home, STEPS[0], STEPS[0], name="other"))

    assert "there is a column w_outlier" in failure.detail
    assert twice.violations[0].pointer == "/steps/1/step"


async def test_nothing_that_was_not_found_runs(home: House, stub: Any) -> None:
    await create(home, name="of-nothing", output="clean")
    assert await code_of(stub.RunRecipe(pb.RunRecipeRequest(recipe="none"))) is Code.NOT_FOUND
    assert await code_of(stub.RunRecipe(pb.RunRecipeRequest(recipe="of-nothing", version=2))) is Code.UNKNOWN_VERSION
    wrong = pb.RunRecipeRequest(recipe="of-nothing", data_set_version=9)
    assert await code_of(stub.RunRecipe(wrong)) is Code.UNKNOWN_VERSION
    assert await code_of(stub.GetRecipeRun(pb.GetRecipeRunRequest(recipe="of-nothing", run="x"))) is Code.NOT_FOUND


async def test_a_run_that_nothing_comes_of_is_cancelled_and_one_runs_at_a_time(home: House, stub: Any) -> None:
    await create(home)
    begun = await stub.RunRecipe(pb.RunRecipeRequest(recipe="tidy"))
    assert await code_of(stub.RunRecipe(pb.RunRecipeRequest(recipe="tidy"))) is Code.IN_PROGRESS
    await home.stub(OperationsStub, "data").CancelOperation(
        operations_pb2.CancelOperationRequest(operation=begun.operation)
    )
    assert (await ended(home, begun.operation)).state == operations_pb2.OPERATION_STATE_CANCELLED
    (cancelled,) = (await stub.ListRecipeRuns(pb.ListRecipeRunsRequest(recipe="tidy"))).runs
    assert (cancelled.state, cancelled.output_version) == (pb.RECIPE_RUN_STATE_CANCELLED, 0)
    folder = home.runtime.home / "tables" / "acme" / "default" / "clean"
    await until(lambda: not list(folder.glob("*")))
    assert (await run(home)).rows_out == 4


async def test_a_repeated_call_has_one_effect(home: House) -> None:
    keyed = home.stub(RecipesStub, "data", idempotency_key="k")
    request = pb.CreateRecipeRequest(recipe="tidy", data_set="raw", output_data_set="clean", steps=STEPS)
    assert await keyed.CreateRecipe(request) == await keyed.CreateRecipe(request)
    first = await keyed.RunRecipe(pb.RunRecipeRequest(recipe="tidy"))
    await ended(home, first.operation)
    assert await keyed.RunRecipe(pb.RunRecipeRequest(recipe="tidy")) == first
    longer = pb.CreateRecipeVersionRequest(recipe="tidy", steps=STEPS)
    assert await keyed.CreateRecipeVersion(longer) == await keyed.CreateRecipeVersion(longer)
    assert (await home.stub(RecipesStub, "data").GetRecipe(pb.GetRecipeRequest(recipe="tidy"))).latest_version == 2


async def test_recipes_are_listed_deleted_and_brought_back(home: House, stub: Any) -> None:
    for name in ("b", "c", "a"):
        await create(home, name=name)
    first = await stub.ListRecipes(pb.ListRecipesRequest(page_size=2))
    second = await stub.ListRecipes(pb.ListRecipesRequest(page_size=2, page_token=first.next_page_token))
    assert [one.recipe for one in (*first.recipes, *second.recipes)] == ["a", "b", "c"]
    assert await code_of(create(home, name="a")) is Code.ALREADY_EXISTS

    wrong = home.stub(RecipesStub, "data", if_match='"7"').DeleteRecipe(pb.DeleteRecipeRequest(recipe="a"))
    assert await code_of(wrong) is Code.ETAG_MISMATCH
    right = home.stub(RecipesStub, "data", if_match='"1"')
    gone = await right.DeleteRecipe(pb.DeleteRecipeRequest(recipe="a"))
    assert await right.DeleteRecipe(pb.DeleteRecipeRequest(recipe="a")) == gone
    for call in (
        stub.GetRecipe(pb.GetRecipeRequest(recipe="a")),
        stub.RunRecipe(pb.RunRecipeRequest(recipe="a")),
        stub.ListRecipeRuns(pb.ListRecipeRunsRequest(recipe="a")),
        stub.CreateRecipeVersion(pb.CreateRecipeVersionRequest(recipe="a", steps=STEPS)),
    ):
        assert await code_of(call) is Code.NOT_FOUND
    assert [r.recipe for r in (await stub.ListRecipes(pb.ListRecipesRequest(show_deleted=True))).recipes] == [
        "a",
        "b",
        "c",
    ]
    back = await stub.UndeleteRecipe(pb.UndeleteRecipeRequest(recipe="a"))
    assert (list(back.steps), back.HasField("delete_time")) == (STEPS, False)


async def test_another_tenant_finds_nothing(home: House) -> None:
    await create(home)
    done = await run(home)
    foreign = home.stub(RecipesStub, "data", tenant="other", if_match='"1"')
    for call in (
        foreign.GetRecipe(pb.GetRecipeRequest(recipe="tidy")),
        foreign.RunRecipe(pb.RunRecipeRequest(recipe="tidy")),
        foreign.GetRecipeRun(pb.GetRecipeRunRequest(recipe="tidy", run=done.run)),
        foreign.ListRecipeRuns(pb.ListRecipeRunsRequest(recipe="tidy")),
        foreign.PreviewRecipe(pb.PreviewRecipeRequest(data_set="raw", steps=STEPS)),
        foreign.DeleteRecipe(pb.DeleteRecipeRequest(recipe="tidy")),
        foreign.UndeleteRecipe(pb.UndeleteRecipeRequest(recipe="tidy")),
    ):
        assert await code_of(call) is Code.NOT_FOUND
    assert not (await foreign.ListRecipes(pb.ListRecipesRequest())).recipes


async def test_a_change_of_columns_that_the_output_refuses_fails_the_run(home: House, stub: Any, tables: Any) -> None:
    await add(home, "clean", {"id": ["1"], "weight": ["1"], "office": ["O"]})
    etag = (await tables.GetDataSet(data.GetDataSetRequest(data_set="clean"))).etag
    request = data.UpdateDataSetRequest(
        data_set="clean",
        refused_changes=[data.SCHEMA_CHANGE_CHANGE_TYPE],
        update_mask=MASK,
    )
    await tables.UpdateDataSet(request, metadata=[("if-match", etag)])
    await create(home)
    begun = await stub.RunRecipe(pb.RunRecipeRequest(recipe="tidy"))
    operation = await ended(home, begun.operation)

    assert operation.error.code == "failed_precondition"
    (failed,) = (await stub.ListRecipeRuns(pb.ListRecipeRunsRequest(recipe="tidy"))).runs
    assert failed.state == pb.RECIPE_RUN_STATE_FAILED
    with pytest.raises(Failure):
        await rows(tables, version=2)
