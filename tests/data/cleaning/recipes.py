"""Recipes through their RPCs, for tests."""

from typing import Any

from aimass.v1 import operations_pb2, schema_pb2
from aimass.v1 import recipes_pb2 as pb
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.recipes_pb2_grpc import RecipesStub
from tests.support.house import House

RAW = {
    "id": ["1", "2", "3", "3", "5", "6", "7"],
    "weight": ["1,5", "2,5", "n/a", "n/a", "heavy", "2,0", "900"],
    "office": ["Oslo", "Moss", None, None, "Oslo", "Oslo", "Moss"],
}
STEPS = [
    pb.CleaningStep(step="missing", find_missing=pb.FindMissing(columns=["weight"])),
    pb.CleaningStep(
        step="numbers",
        convert=pb.ConvertType(columns=["weight"], type=schema_pb2.COLUMN_TYPE_DOUBLE, decimal_sign=","),
    ),
    pb.CleaningStep(step="once", duplicates=pb.RemoveDuplicates(key=["id"])),
    pb.CleaningStep(
        step="heavy",
        outliers=pb.HandleOutliers(
            columns=["weight"], method=pb.OUTLIER_METHOD_IQR, action=pb.OUTLIER_ACTION_QUARANTINE, threshold=2
        ),
    ),
    pb.CleaningStep(step="fill", fill_missing=pb.FillMissing(columns=["weight"], method=pb.MISSING_METHOD_MEAN)),
    pb.CleaningStep(
        step="offices", fill_missing=pb.FillMissing(columns=["office"], method=pb.MISSING_METHOD_CONSTANT, value="?")
    ),
]


async def create(home: House, *steps: pb.CleaningStep, name: str = "tidy", output: str = "clean") -> pb.Recipe:
    """A recipe for `raw`."""
    request = pb.CreateRecipeRequest(recipe=name, data_set="raw", output_data_set=output, steps=steps or STEPS)
    made: pb.Recipe = await home.stub(RecipesStub, "data").CreateRecipe(request)
    return made


async def ended(home: House, operation: str) -> operations_pb2.Operation:
    """An operation at its end."""
    request = operations_pb2.WaitOperationRequest(operation=operation)
    found: operations_pb2.Operation = await home.stub(OperationsStub, "data").WaitOperation(request, timeout=60)
    assert found.HasField("end_time")
    return found


async def run(home: House, name: str = "tidy", **said: Any) -> pb.RecipeRun:
    """Runs a recipe to its end; the run with its report."""
    stub = home.stub(RecipesStub, "data")
    begun = await stub.RunRecipe(pb.RunRecipeRequest(recipe=name, **said))
    operation = await ended(home, begun.operation)
    assert operation.state == operations_pb2.OPERATION_STATE_SUCCEEDED, operation.error
    answer = pb.RecipeRun()
    assert operation.response.Unpack(answer)
    found: pb.RecipeRun = await stub.GetRecipeRun(pb.GetRecipeRunRequest(recipe=name, run=answer.run))
    assert (found.rows_out, len(found.steps)) == (answer.rows_out, len(answer.steps))
    return found
