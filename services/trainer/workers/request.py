"""The request for the child, and the manifest of its result. Pure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from aimass.v1 import workers_pb2 as pb
from aimass.v1.schema_pb2 import ColumnType
from services.trainer.jobs.wire import spec_from_wire

Json = dict[str, Any]
# Files of the model version; the evaluated rows are the tenant's data and stay with the run.
PACKAGED = ("model.onnx", "card.md", "environment.json", "evaluation.json")


def child_request(lease: pb.Lease, files: Sequence[str], graph: Path, folder: Path, threads: int) -> Json:
    """All that a training needs, as JSON; the child has no token and calls nobody."""
    spec, inputs = spec_from_wire(lease.spec), lease.inputs
    return {
        "model": spec.model,
        "feature_set": f"{spec.feature_set}@{spec.feature_set_version}",
        "data_set": f"{inputs.data_set}@{spec.data_set_version}",
        "files": list(files),
        "graph": str(graph),
        "graph_digest": inputs.graph_digest,
        "inputs": {
            column.name: "BYTES" if column.type == ColumnType.COLUMN_TYPE_STRING else "FP64"
            for column in inputs.columns
        },
        "outputs": list(inputs.outputs),
        "label": inputs.label,
        "key": inputs.key,
        "train": vars(spec.train),
        "evaluate": vars(spec.evaluate),
        "estimator": {"kind": lease.spec.WhichOneof("estimator"), **vars(spec.estimator)},
        "seed": spec.seed,
        "permute": spec.permute_labels,
        "folder": str(folder),
        "threads": threads,
    }


def manifest(lease: pb.Lease, result: Mapping[str, Any], files: Sequence[pb.RunArtifact]) -> bytes:
    """The canonical JSON whose digest identifies a version: files by digest, signature, environment, origin."""
    content = {
        "format": 1,
        "model": lease.spec.model,
        "job": lease.job,
        "run": lease.run,
        "feature_set": f"{lease.spec.feature_set}@{lease.spec.feature_set_version}",
        "data_set": f"{lease.inputs.data_set}@{lease.spec.data_set_version}",
        "files": [
            {"name": file.name, "digest": file.digest, "size": file.size, "media_type": file.media_type}
            for file in files
            if file.name in PACKAGED
        ],
        **{name: result[name] for name in ("signature", "environment", "metrics")},
    }
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
