"""Steps 5 and 6: two candidates, judged on what they have not seen; the better one serves."""

import io
from typing import Any

import orjson
import pyarrow as pa

from aimass.v1 import models_pb2, releases_pb2
from examples.flights.definitions import CANDIDATES, MODEL, spec
from examples.flights.story import Story, expect, soon


def candidates(story: Story) -> None:
    """Trains both as jobs, and reads how they did from the file that will serve."""
    started = {name: story.client.jobs.submit_job(spec=spec(estimator)) for name, estimator in CANDIDATES.items()}
    for name, handle in started.items():
        job = story.wait(handle)
        run = story.client.runs.get_run(run=job.run)
        report = orjson.loads(bytes(story.client.download(run=job.run, artifact="evaluation.json")))
        story.facts[name] = {"job": job.job, "run": job.run, "metrics": dict(run.metrics), "report": report}
        metrics = run.metrics
        text = f"AUC {metrics['auc']:.4f}, log loss {metrics['log_loss']:.4f}, base rate {metrics['base_rate']:.3f}"
        story.say(f"{name}: {text}, calibration error {metrics['calibration_error']:.3f}")


def stored(story: Story, name: str) -> pa.Table:
    """What a candidate said of the months it was judged on, as its training stored it: columns, label, probability."""
    content = bytes(story.client.download(run=story.facts[name]["run"], artifact="evaluation.arrow"))
    table: pa.Table = pa.ipc.open_file(io.BytesIO(content)).read_all()
    return table


def _versions(story: Story) -> dict[str, models_pb2.ModelVersion]:
    found = story.client.models.iterate_model_versions(model=MODEL)
    by_job = {version.job: version for version in found}
    return by_job if len(by_job) >= len(CANDIDATES) else {}


def promote_the_better(story: Story) -> None:
    """The registry has heard of both; the better one is loaded, warmed, switched to, and serves."""
    soon(lambda: any(model.model == MODEL for model in story.client.models.iterate_models()))
    by_job = soon(lambda: _versions(story))
    expect(len(by_job) == len(CANDIDATES), f"the registry has {len(by_job)} versions, not {len(CANDIDATES)}")
    for name in CANDIDATES:
        version = by_job[story.facts[name]["job"]]
        story.facts[name]["version"], story.facts[name]["digest"] = version.version, version.digest
        expect(version.signature.batch_invariant, f"version {version.version} answers differently in batches")
        story.say(f"version {version.version}: {name}, {version.digest[:19]}")
    ranked = sorted(CANDIDATES, key=lambda name: -story.facts[name]["metrics"]["auc"])
    story.facts["better"], story.facts["other"] = ranked
    release = promote(story, ranked[0], "better AUC")
    story.say(f"version {release.serving.version} serves: loaded, warmed, switched")


def promote(story: Story, name: str, reason: str) -> releases_pb2.Release:
    """Makes a candidate's version serve."""
    number: Any = story.facts[name]["version"]
    release = story.wait(story.client.releases.promote_version(model=MODEL, version=number, reason=reason))
    expect(release.serving.version == number, f"version {release.serving.version} serves, not {number}")
    return release
