"""The entry module of the child that trains. Heavy packages are imported only by `main`."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.kit.child import Child
from services.kit.errors import Code, FailedPrecondition, Failure
from services.trainer.jobs.domain import LightGbm, LogisticRegression, RowRange

Json = dict[str, Any]
Say = Callable[[Json], None]
MEDIA_TYPES = {
    ".onnx": "application/octet-stream",
    ".arrow": "application/vnd.apache.arrow.file",
    ".json": "application/json",
    ".md": "text/markdown",
}


def main(request: Json, child: Child) -> Json:
    """Trains as `request` says (see services.trainer.workers.request) and writes files to its `folder`.

    Returns names of the files, metrics, signature and environment. Raises failed_precondition for data that cannot be
    learnt from.
    """
    from services.kit import folds
    from services.trainer.training import table
    from services.trainer.training.session import Session

    def say(message: Json) -> None:
        child.progress({**message, "cpu_milliseconds": _spent()})

    say({"progress": 0.02, "stage": "reading"})
    graph = _graph(request)
    ranges = [RowRange(**request[name]) for name in ("train", "evaluate")]
    columns = [request["key"], *request["inputs"], request["label"]]
    known, held = table.read(request["files"], columns, ranges)
    labels = table.binary(known, request["label"], "train on")
    truth = table.binary(held, request["label"], "evaluate on")
    say({"progress": 0.1, "stage": "features"})
    # The runtime warns of an input that may be left out, which that of the folds is.
    session = Session(graph, warn=False)
    feeds = table.feeds(known, request["inputs"])
    if session.knows_folds:
        feeds[folds.INPUT] = folds.of(known.column(request["key"]))[:, None].astype(float)
    features = session.run(feeds)
    say({"progress": 0.2, "stage": "training"})
    model = _train(request, say, graph, features, labels)
    say({"progress": 0.9, "stage": "evaluating"})
    return {**_package(request, model, held, truth, len(labels)), "cpu_milliseconds": _spent()}


def _spent() -> int:
    """Processor time that this process has used, in milliseconds."""
    return int(time.process_time() * 1000)


def _graph(request: Json) -> bytes:
    from hashlib import sha256

    data = Path(request["graph"]).read_bytes()
    if f"sha256:{sha256(data).hexdigest()}" != request["graph_digest"]:
        raise Failure(Code.DIGEST_MISMATCH, "the feature graph has been damaged on its disk")
    return data


def _train(request: Json, say: Say, graph: bytes, features: Any, labels: Any) -> bytes:
    import numpy as np

    from services.trainer.training import boosting, logistic, model

    how = dict(request["estimator"])
    kind = how.pop("kind")
    rounds = how["rounds"] if kind == "lightgbm" else how["iterations"]
    if request["permute"]:
        labels = np.random.default_rng(request["seed"]).permutation(labels)

    def point(metric: str, step: int, value: float) -> None:
        done = min(step / rounds, 1.0)
        measured = {"metric": metric, "step": step, "value": value}
        say({"progress": 0.2 + 0.7 * done, "stage": "training", "point": measured})

    if kind == "lightgbm":
        settings = LightGbm(**how)
        trees = boosting.train(features, labels, settings, request["seed"], request["threads"], point)
        return model.append_trees(graph, boosting.operator(trees))
    found = logistic.train(features, labels, request["outputs"], LogisticRegression(**how), point)
    return model.append_linear(graph, *found)


def _package(request: Json, model: bytes, held: Any, truth: Any, rows: int) -> Json:
    from services.kit.machine import checked_on
    from services.trainer.training import files, session, table
    from services.trainer.training.evaluation import evaluate

    folder = Path(request["folder"])
    with session.no_warnings():
        loaded = session.Session(model)
        feeds = table.feeds(held, loaded.inputs)
        invariant = session.batch_invariant(loaded, feeds)
        probabilities = loaded.run(feeds)[:, 0]
    if loaded.inputs != request["inputs"]:
        raise FailedPrecondition("the feature graph does not take the columns that its version names")
    metrics, report = evaluate(truth, probabilities)
    environment = files.environment(request["threads"])
    (folder / "model.onnx").write_bytes(model)
    (folder / "card.md").write_text(files.card(request, metrics, rows, invariant))
    files.write_json(folder / "environment.json", environment)
    files.write_json(folder / "evaluation.json", report)
    files.write_rows(folder / "evaluation.arrow", held, request["key"], probabilities)
    inputs = [{"name": name, "datatype": datatype, "shape": [-1, 1]} for name, datatype in loaded.inputs.items()]
    return {
        "files": {path.name: MEDIA_TYPES[path.suffix] for path in sorted(folder.iterdir())},
        "metrics": {**metrics, "train_rows": float(rows)},
        "environment": environment,
        "signature": {
            "inputs": inputs,
            "outputs": [{"name": "probability", "datatype": "FP32", "shape": [-1, 1]}],
            "batch_invariant": invariant,
            "checked_on": checked_on(),
        },
    }
