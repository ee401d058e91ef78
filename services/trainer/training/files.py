"""The files of a run beside the model: evaluation, card, environment."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from services.kit.machine import instruction_set
from services.trainer.training.table import Array

PACKAGES = ("lightgbm", "numpy", "onnx", "onnxruntime", "pyarrow", "scipy")
KEPT_ROWS = 50_000


def write_rows(path: Path, table: pa.Table, key: str, probabilities: Array) -> None:
    """Writes raw rows with label and probability to an Arrow file: the first 50,000 by the key."""
    whole = table.append_column("probability", pa.array(probabilities.astype(np.float32)))
    kept = whole.take(pc.sort_indices(whole, [(key, "ascending")])[:KEPT_ROWS])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, kept.schema) as writer:
        writer.write_table(kept)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON with sorted keys."""
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY))


def environment(threads: int) -> dict[str, str]:
    """Versions of what the model was trained with, by name."""
    found = {name: version(name) for name in PACKAGES}
    return found | {"python": platform.python_version(), "cpu": instruction_set(), "threads": str(threads)}


def card(request: dict[str, Any], metrics: dict[str, float], rows: int, invariant: bool) -> str:
    """A model card in Markdown."""
    settings = ", ".join(f"{name} {value}" for name, value in request["estimator"].items() if name != "kind")
    shuffled = (
        "\n**Its labels were put in a random order: it is a check, not a model.**\n" if request["permute"] else ""
    )
    lines = [
        f"| {name.replace('_', ' ')} | {value:.4f} |" for name, value in metrics.items() if name != "evaluate_rows"
    ]
    return f"""# {request["model"]}

{request["estimator"]["kind"].replace("_", " ")} ({settings}), seed {request["seed"]}.
Predicts `{request["label"]}` from {len(request["outputs"])} features of {len(request["inputs"])} columns.
{shuffled}
## Data

Features {request["feature_set"]}, data {request["data_set"]}. Trained on {rows:,} rows ({_spell(request["train"])}),
measured on {int(metrics["evaluate_rows"]):,} rows ({_spell(request["evaluate"])}) with the packaged file itself.

## Measured

| metric | value |
|---|---|
{chr(10).join(lines)}

## Serving

Takes one tensor [rows, 1] for each column: FP64 with NaN for a missing number, BYTES with an empty text for a missing
text. Gives `probability` [rows, 1]. In any batch, the same row gives
{"the same bytes" if invariant else "close numbers"}.
"""


def _spell(rows: dict[str, Any]) -> str:
    low, high = (rows[name] for name in ("start", "end"))
    return " ".join(
        [*([f"{low:g} <="] if low is not None else []), rows["column"], *([f"<= {high:g}"] if high is not None else [])]
    )
