"""Each step of the main job, in the order in which a company would go."""

import io
import struct
import threading
import time
from typing import Any

import pyarrow as pa
import pytest
from standardwebhooks import Webhook

from aimass import Failure
from tests.journeys import steps
from tests.journeys.conftest import Story
from tests.support import flights

BROKEN = sum(number % 97 == 11 for number in range(400))  # per month, as the generator plants them
COLUMNS = ["carrier", "origin", "hour", "distance", "temp", "seats"]


def evaluation(story: Story, run: str) -> pa.Table:
    data = story.client.download(run=run, artifact="evaluation.arrow")
    assert isinstance(data, bytes)
    return (
        pa.ipc.open_file(io.BytesIO(data)).read_all() if data[:5] == b"ARROW" else pa.ipc.open_stream(data).read_all()
    )


def columns(table: pa.Table, start: int = 0, count: int | None = None) -> dict[str, list[Any]]:
    return {name: table.column(name).slice(start, count).to_pylist() for name in COLUMNS}


def bits(values: Any) -> bytes:
    flat = [float(value) for value in (values.reshape(-1) if hasattr(values, "reshape") else values)]
    return struct.pack(f"<{len(flat)}f", *flat)


def promote(story: Story, version: int) -> Any:
    return story.client.releases.promote_version(model="late", version=version, reason="better").result(timeout=60)


def test_01_sources_are_registered_and_previewed(story: Story) -> None:
    steps.register_sources(story.client, story.raw, story.server.home)

    for source in ("flights-db", "weather-files", "planes-file", "gateway-log"):
        preview = story.client.sources.preview_source(source=source, records=5)
        assert preview.records, source
        assert preview.schema.columns, source


def test_02_rules_are_tested_on_a_sample_and_activated(story: Story) -> None:
    steps.write_rules(story.client)

    for rule in steps.RULES:
        tested = story.client.rules.test_rule(rule=rule)
        assert tested.coverage > 0.9, (rule, tested.refused)
        assert story.client.rules.activate_rule(rule=rule, version=1).active_version == 1


def test_03_an_extraction_makes_a_version_and_puts_broken_rows_aside(story: Story) -> None:
    done = steps.extract(story.client, *steps.RULES)

    raw = done["flights_raw"]
    assert raw.records_read == 3600
    assert raw.rows_accepted + raw.rows_quarantined == 3600
    assert raw.rows_quarantined == 9 * BROKEN
    assert all(extraction.data_set_version == 1 for extraction in done.values())
    aside = story.client.data_sets.list_quarantine(data_set="flights_raw", version=1, page_size=5)
    assert all("soon" in row.record for row in aside.rows)


def test_04_a_pipeline_derives_the_flights(story: Story) -> None:
    steps.derive(story.client)
    run = story.client.pipelines.run_pipeline(pipeline="derive-flights").result(timeout=60)

    version = story.client.data_sets.get_data_set_version(data_set="flights", version=run.outputs[0].version)
    assert version.version == 1
    assert version.quality.excluded["cancelled"] == 9 * 8
    assert {parent.name for parent in version.parents} >= {"flights_raw", "weather", "planes"}
    story.known["first"] = count(story, 1)
    assert story.known["first"]["rows"] == version.rows


def count(story: Story, version: int) -> dict[str, Any]:
    answer = story.client.data_sets.query_data_sets(
        sql="SELECT count(*) AS rows, avg(late) AS late FROM flights",
        tables=[{"data_set": "flights", "version": version}],
    )
    return dict(answer.rows[0].items())


def test_05_only_new_rows_are_read_and_old_versions_stay(story: Story) -> None:
    flights.write(story.raw, range(10, 13))
    done = steps.extract(story.client, "flights_raw", "weather")
    run = story.client.pipelines.run_pipeline(pipeline="derive-flights").result(timeout=60)

    assert done["flights_raw"].records_read == 1200
    assert done["weather"].records_read == 3 * 24 * 3
    assert run.outputs[0].version == 2
    assert count(story, 2)["rows"] > story.known["first"]["rows"]
    assert count(story, 1) == story.known["first"]


def test_06_nothing_new_makes_no_version(story: Story) -> None:
    done = steps.extract(story.client, "flights_raw")

    assert done["flights_raw"].data_set_version == 0


def test_07_a_feature_set_is_fitted(story: Story) -> None:
    story.client.feature_sets.create_feature_set(
        feature_set="late", data_set="flights", label="late", key="id", steps=steps.STEPS
    )
    fitted = story.client.feature_sets.fit_feature_set(
        feature_set="late", train={"column": "month", "from": 1, "to": 8}
    ).result(timeout=60)

    assert fitted.version == 1
    assert [column.name for column in fitted.inputs.columns] == sorted(
        COLUMNS, key=[column.name for column in fitted.inputs.columns].index
    )
    assert len(fitted.outputs) >= 10


def test_08_two_candidates_are_trained_and_evaluated(story: Story) -> None:
    both = {
        "trees": steps.spec({"lightgbm": {"rounds": 60, "leaves": 7}}),
        "linear": steps.spec({"logistic_regression": {}}),
    }
    for name, spec in both.items():
        job = story.client.jobs.submit_job(spec=spec).result(timeout=90)
        run = story.client.runs.get_run(run=job.run)
        assert run.metrics["auc"] > 0.7, (name, dict(run.metrics))
        assert {"model.onnx", "evaluation.arrow", "card.md", "environment.json"} <= {a.name for a in run.artifacts}
        story.known[name] = job

    def versions() -> list[Any]:
        try:
            return list(story.client.models.list_model_versions(model="late").versions)
        except Failure:
            return []

    deadline = time.monotonic() + 20
    while len(versions()) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    story.known["versions"] = {version.job: version for version in versions()}
    assert set(story.known["versions"]) == {story.known["trees"].job, story.known["linear"].job}
    assert all(version.signature.batch_invariant for version in versions())


def number(story: Story, name: str) -> int:
    return int(story.known["versions"][story.known[name].job].version)


def test_09_the_better_one_is_promoted_by_the_handshake(story: Story) -> None:
    hook = story.client.subscriptions.create_subscription(
        subscription="promotions",
        filter="kind:event AND name:ReleaseChanged",
        webhook={"url": story.sink.url},
        template={"subject": "{{record.model}}", "body": '{"text": "{{record.name}} of {{record.model}}"}'},
    )
    story.known["secret"] = hook.signing_secret
    release = promote(story, number(story, "trees"))

    assert release.serving.version == number(story, "trees")
    assert release.desired == release.serving
    stage = story.client.models.get_model_version(model="late", version=release.serving.version).stage
    assert stage == 2  # STAGE_SERVING


@pytest.mark.parametrize("size", [1, 7, 300])
def test_10_answers_are_those_that_training_stored_bit_for_bit(story: Story, size: int) -> None:
    table = evaluation(story, story.known["trees"].run)
    wanted = bits(table.column("probability").slice(0, 600).to_pylist())
    got = b""
    for start in range(0, 600 if size > 1 else 60, size):
        answer = story.client.predict("late", columns=columns(table, start, min(size, 600 - start)))
        got += bits(answer["probability"])
        assert answer.version == number(story, "trees")

    assert got == wanted[: len(got)]


def test_11_the_stock_grpc_client_gets_the_same_answers(story: Story) -> None:
    import numpy as np
    import tritonclient.grpc as triton

    table = evaluation(story, story.known["trees"].run).slice(0, 100)
    client = triton.InferenceServerClient(story.server.grpc, **steps.trust(story.server))
    headers = {"authorization": f"Bearer {story.server.key}"}
    described = client.get_model_metadata("late", headers=headers)
    inputs = []
    for spec in described.inputs:
        kind = object if spec.datatype == "BYTES" else triton.triton_to_np_dtype(spec.datatype)
        values = np.array(table.column(spec.name).to_pylist(), dtype=kind).reshape(-1, 1)
        tensor = triton.InferInput(spec.name, list(values.shape), spec.datatype)
        tensor.set_data_from_numpy(values)
        inputs.append(tensor)
    answer = client.infer("late", inputs, headers=headers)
    client.close()

    assert bits(answer.as_numpy("probability")) == bits(table.column("probability").to_pylist())


@pytest.mark.parametrize(
    ("change", "code", "names"),
    [
        ({"hour": ["noon"]}, "invalid_value", "hour"),
        ({"hour": None}, "invalid_value", "hour"),
        ({"model": "nobody"}, "not_found", "nobody"),
    ],
    ids=["a wrong type", "a missing column", "an unknown model"],
)
def test_12_errors_name_what_is_wrong(story: Story, change: dict[str, Any], code: str, names: str) -> None:
    table = evaluation(story, story.known["trees"].run)
    change = dict(change)
    model = change.pop("model", "late")
    given = {name: values for name, values in (columns(table, 0, 1) | change).items() if values is not None}

    with pytest.raises(Failure) as caught:
        story.client.predict(model, columns=given)
    assert caught.value.code == code
    assert names in caught.value.detail


def test_13_another_version_takes_over_without_a_failed_request(story: Story) -> None:
    table = evaluation(story, story.known["trees"].run)
    given, seen, failures, stop = columns(table, 0, 3), set[int](), list[Exception](), threading.Event()

    def ask() -> None:
        with story.server.client() as client:
            while not stop.is_set():
                try:
                    seen.add(client.predict("late", columns=given).version)
                except Exception as error:
                    failures.append(error)

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    promote(story, number(story, "linear"))
    time.sleep(0.3)
    back = story.client.releases.rollback_release(model="late", reason="worse").result(timeout=60)
    time.sleep(0.3)
    stop.set()
    for thread in asking:
        thread.join()

    assert not failures
    assert seen == {number(story, "trees"), number(story, "linear")}
    assert back.serving.version == number(story, "trees")


def test_14_live_quality_is_measured_on_what_happened(story: Story) -> None:
    table = evaluation(story, story.known["trees"].run).slice(0, 200)
    answer = story.client.predict("late", columns=columns(table), request_id="journey-14")
    assert answer.request_id == "journey-14"
    recorded = story.client.record_outcomes("late", answer.request_id, table.column("late").to_pylist())
    assert recorded.recorded == 200

    def measured() -> Any:
        quality = story.client.monitors.get_quality(model="late")
        return next((v for v in quality.versions if v.with_outcome >= 200 and v.HasField("auc")), None)

    deadline = time.monotonic() + 20
    while not (version := measured()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert version
    assert version.version == answer.version
    assert version.auc > 0.65
    again = story.client.record_outcomes("late", answer.request_id, table.column("late").to_pylist())
    assert (again.recorded, again.known) == (0, 200)


def found(story: Story, query: str) -> list[Any]:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if records := story.client.logs.search_logs(query=query).records:
            return list(records)
        time.sleep(0.2)
    return []


def test_15_what_happened_is_found(story: Story) -> None:
    # Several records have the request's id, and come in batches of different services.
    assert found(story, "request_id:journey-14 AND kind:prediction")
    assert found(story, "kind:prediction AND model:late")
    assert found(story, "kind:event AND name:ReleaseChanged")
    assert story.client.logs.get_trace(request_id="journey-14").spans
    assert story.client.logs.count_logs(query="kind:prediction", step_seconds=60).total > 0


def test_16_the_promotion_reaches_the_subscriber(story: Story) -> None:
    headers, body = story.sink.wait(1)[0]

    Webhook(story.known["secret"]).verify(body, headers)
    assert b"ReleaseChanged of late" in body


def test_17_an_upload_of_ones_own_becomes_a_data_set(story: Story) -> None:
    upload = story.client.upload(b"faa,name,lat\nJFK,John F Kennedy,40.6\nLGA,La Guardia,40.7\n")
    story.client.sources.create_source(
        source="airports", files={"upload_digest": upload.digest, "format": "FILE_FORMAT_CSV"}
    )
    kinds = [
        {"name": "faa", "type": steps.TEXT},
        {"name": "name", "type": steps.TEXT},
        {"name": "lat", "type": steps.DOUBLE},
    ]
    story.client.rules.create_rule(rule="airports", source="airports", definition={"file": {"columns": kinds}})
    story.client.rules.activate_rule(rule="airports", version=1)

    assert steps.extract(story.client, "airports")["airports"].rows_accepted == 2
    rows = story.client.data_sets.read_rows(data_set="airports", version=1).rows
    assert [row["faa"] for row in rows] == ["JFK", "LGA"]


def test_18_the_lineage_goes_back_to_the_sources(story: Story) -> None:
    lineage = story.client.data_sets.get_lineage(data_set="flights", version=2)

    assert {"flights_raw", "weather", "planes", "flights-db"} <= {node.name for node in lineage.nodes}


DELETABLE = {
    "sources": ("source", "airports"),
    "rules": ("rule", "airports"),
    "data_sets": ("data_set", "airports"),
    "feature_sets": ("feature_set", "late"),
    "pipelines": ("pipeline", "derive-flights"),
    "subscriptions": ("subscription", "promotions"),
}


@pytest.mark.parametrize("service", DELETABLE)
def test_19_everything_can_be_deleted_and_brought_back(story: Story, service: str) -> None:
    kind, name = DELETABLE[service]
    calls = getattr(story.client, service)
    thing = getattr(calls, f"get_{kind}")(**{kind: name})
    with pytest.raises(Failure) as stale:
        getattr(calls, f"delete_{kind}")(**{kind: name}, etag="999")
    getattr(calls, f"delete_{kind}")(**{kind: name}, etag=thing.etag)
    with pytest.raises(Failure) as gone:
        getattr(calls, f"get_{kind}")(**{kind: name})
    getattr(calls, f"undelete_{kind}")(**{kind: name})

    assert (stale.value.code, gone.value.code) == ("etag_mismatch", "not_found")
    assert getattr(calls, f"get_{kind}")(**{kind: name})


def test_20_a_serving_model_is_not_deleted(story: Story) -> None:
    model = story.client.models.get_model(model="late")

    with pytest.raises(Failure) as caught:
        story.client.models.delete_model(model="late", etag=model.etag)
    assert caught.value.code == "failed_precondition"
