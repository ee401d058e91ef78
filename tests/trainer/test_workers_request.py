from pathlib import Path

import orjson
import pytest

from aimass.v1 import jobs_pb2 as pb
from aimass.v1 import workers_pb2 as wpb
from aimass.v1.schema_pb2 import COLUMN_TYPE_INT64, COLUMN_TYPE_STRING, Column
from services.trainer.workers.request import child_request, manifest
from tests.trainer.steps import spec

COLUMNS = [Column(name="carrier", type=COLUMN_TYPE_STRING), Column(name="hour", type=COLUMN_TYPE_INT64)]
INPUTS = wpb.TrainingInputs(
    data_set="flights", graph_digest="sha256:0", columns=COLUMNS, outputs=["a", "b"], label="late", key="id"
)
FILES = ["/tables/flights/run/part-00000.parquet"]
RESULT = {"signature": {"inputs": []}, "environment": {"numpy": "2"}, "metrics": {"auc": 0.7}, "files": {}}


def lease(**values: object) -> wpb.Lease:
    made = spec(feature_set_version=1, data_set_version=2, **values)
    return wpb.Lease(tenant="acme", job="j", run="r", spec=made, inputs=INPUTS)


def test_the_child_is_told_everything_and_no_secret() -> None:
    asked = child_request(lease(seed=3), FILES, Path("/g"), Path("/f"), 2)

    assert asked["files"] == FILES
    assert asked["inputs"] == {"carrier": "BYTES", "hour": "FP64"}
    assert asked["train"] == {"column": "month", "start": None, "end": 9.0}
    assert (asked["feature_set"], asked["data_set"], asked["seed"], asked["threads"]) == ("late@1", "flights@2", 3, 2)
    assert not {"tenant", "token", "job"} & set(asked)
    assert orjson.loads(orjson.dumps(asked)) == asked


@pytest.mark.parametrize(
    ("values", "estimator"),
    [
        (
            {"lightgbm": pb.LightGbm(rounds=9)},
            {"kind": "lightgbm", "rounds": 9, "leaves": 31, "learning_rate": 0.05, "min_data_in_leaf": 50},
        ),
        (
            {"logistic_regression": pb.LogisticRegression(c=2)},
            {"kind": "logistic_regression", "c": 2.0, "iterations": 200},
        ),
    ],
)
def test_settings_are_filled_in(values: dict[str, object], estimator: dict[str, object]) -> None:
    assert child_request(lease(**values), FILES, Path("/g"), Path("/f"), 2)["estimator"] == estimator


def test_a_manifest_is_canonical_and_leaves_the_tenants_rows_out() -> None:
    files = [wpb.RunArtifact(name=name, digest=f"sha256:{name}", size=1) for name in ("evaluation.arrow", "model.onnx")]
    content = manifest(lease(), RESULT, files)

    assert content == manifest(lease(), dict(reversed(RESULT.items())), files)
    found = orjson.loads(content)
    assert [file["name"] for file in found["files"]] == ["model.onnx"]
    assert (found["format"], found["job"], found["metrics"]) == (1, "j", {"auc": 0.7})
