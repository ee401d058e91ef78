"""kill -9 of everything in the middle of the main job: nothing acknowledged is lost, nothing happens twice.

The tests share one installation and go through the story; each one kills it at another point and starts it again.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from aimass import Client, Failure
from tests.journeys import steps
from tests.support import flights
from tests.support.server import Server, serving


class Crashing:
    """An installation that is killed and started again on the same home."""

    def __init__(self, server: Server, raw: Any) -> None:
        self.server, self.raw = server, raw
        self.client = server.client()

    def crash(self) -> None:
        self.server.kill()
        self.client.close()
        self.server.start()
        self.client = self.server.client()

    def ended(self, operation: str, seconds: float = 60) -> Any:
        """The operation once it has ended, whoever began it."""
        return self.client.operation(operation).wait(timeout=seconds).operation

    def rows(self, data_set: str) -> int:
        answer = self.client.data_sets.query_data_sets(
            sql=f"SELECT count(*) AS rows, count(DISTINCT id) AS ids FROM {data_set}", tables=[{"data_set": data_set}]
        )
        row = answer.rows[0]
        assert row["rows"] == row["ids"], "a row is there twice"
        return int(str(row["rows"]).removesuffix(".0"))


@pytest.fixture(scope="module")
def crashing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashing]:
    folder = tmp_path_factory.mktemp("crash")
    raw = folder / "raw"
    flights.write(raw, range(1, 4), per_month=8000)
    with serving(folder / "home", AIMASS_DATA_FILE_ROOTS=f"{raw}:{folder}/home/logs") as server:
        running = Crashing(server, raw)
        steps.register_sources(running.client, raw, server.home)
        steps.write_rules(running.client)
        for rule in steps.RULES:
            running.client.rules.activate_rule(rule=rule, version=1)
        yield running
        running.client.close()


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


@pytest.mark.parametrize("delay", [0.05, 0.6, 1.0])
def test_an_extraction_goes_on(crashing: Crashing, delay: float) -> None:
    before = crashing.rows("flights_raw") if delay > 0.05 else 0
    if delay > 0.05:
        flights.write(crashing.raw, range(4, 5) if delay == 0.6 else range(5, 6), per_month=8000)
    operation = crashing.client.extractions.run_extraction(rule="flights_raw").id
    time.sleep(delay)
    crashing.crash()
    ended = crashing.ended(operation)

    assert ended.state == 3, ended  # succeeded
    added = crashing.rows("flights_raw") - before
    planted = sum(number % 97 == 11 for number in range(8000))
    assert added == (3 if not before else 1) * (8000 - planted)


def test_an_upload_goes_on_where_it_was(crashing: Crashing) -> None:
    data = os.urandom(3 * 2**20)
    upload = crashing.client.sources.create_source_upload().upload
    stored = crashing.client.sources.write_source_upload(upload=upload, offset=0, body=data[: 2**20])
    assert stored.committed_size == 2**20
    crashing.crash()

    at = crashing.client.sources.get_source_upload(upload=upload).committed_size
    assert at == 2**20
    assert crashing.client.upload(data, upload=upload).digest.startswith("sha256:")


def trained(crashing: Crashing) -> list[Any]:
    try:
        return list(crashing.client.models.list_model_versions(model="late").versions)
    except Failure as failure:
        assert failure.code == "not_found"
        return []


@pytest.mark.parametrize("delay", [0.1, 2.5])
def test_a_training_ends_once(crashing: Crashing, delay: float) -> None:
    if delay == 0.1:
        steps.extract(crashing.client, "weather", "planes")
        steps.derive(crashing.client)
        crashing.client.pipelines.run_pipeline(pipeline="derive-flights").result(timeout=60)
        crashing.client.feature_sets.create_feature_set(
            feature_set="late", data_set="flights", label="late", key="id", steps=steps.STEPS
        )
        crashing.client.feature_sets.fit_feature_set(feature_set="late").result(timeout=60)
    before = len(trained(crashing))
    spec = steps.spec({"lightgbm": {"rounds": 40}}, last=2)
    operation = crashing.client.jobs.submit_job(spec=spec).id
    time.sleep(delay)
    crashing.crash()
    ended = crashing.ended(operation, 90)

    assert ended.state == 3, ended
    until(lambda: len(trained(crashing)) == before + 1)
    time.sleep(0.5)
    assert len(trained(crashing)) == before + 1


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.2])
def test_a_promotion_ends_as_it_was_asked(crashing: Crashing, delay: float) -> None:
    versions = sorted(version.version for version in trained(crashing))
    wanted = versions[int(delay * 100) % 2]
    operation = crashing.client.releases.promote_version(model="late", version=wanted).id
    time.sleep(delay)
    crashing.crash()
    ended = crashing.ended(operation)

    assert ended.state == 3, ended
    release = crashing.client.releases.get_release(model="late")
    assert release.serving.version == release.desired.version == wanted
    row: dict[str, list[Any]] = {"carrier": ["AA"], "origin": ["JFK"], "hour": [9], "distance": [300.0]}
    answer = until(lambda: answered(crashing.client, row | {"temp": [None], "seats": [None]}))
    assert answer.version == wanted


def answered(client: Client, row: dict[str, list[Any]]) -> Any:
    try:
        return client.predict("late", columns=row)
    except Failure as failure:
        assert failure.code == "unavailable", failure
        return None


def test_no_log_line_is_lost_or_doubled(crashing: Crashing) -> None:
    """What can be searched before the kill can be searched after it, once."""

    server = crashing.server

    def calls() -> None:
        with httpx2.Client(base_url=server.url, headers={"authorization": f"Bearer {server.key}"}) as http:
            for number in range(60):
                with contextlib.suppress(httpx2.HTTPError):
                    http.get("/v1/whoami", headers={"x-request-id": f"crash-{number}"})

    asking = threading.Thread(target=calls)
    asking.start()
    seen = until(lambda: ids(crashing, "request_id:crash-3 AND name:access"))
    crashing.server.kill()
    asking.join()
    crashing.crash()

    assert ids(crashing, "request_id:crash-3 AND name:access") == seen
    assert len(seen) == 1


def test_no_audited_call_that_was_answered_is_missing_in_the_trail(crashing: Crashing) -> None:
    """It is answered when its line is kept: killed just then, all of it comes to the log centre, once."""
    server, answered = crashing.server, list[str]()

    def calls() -> None:
        with httpx2.Client(base_url=server.url, headers={"authorization": f"Bearer {server.key}"}) as http:
            for number in range(200):
                named = f"audited-{number}"
                with contextlib.suppress(httpx2.HTTPError):
                    answer = http.post("/v1/models", json={"model": named}, headers={"x-request-id": named})
                    answered.extend([named] if answer.status_code == 200 else [])

    asking = threading.Thread(target=calls)
    asking.start()
    until(lambda: len(answered) >= 15)
    server.kill()
    asking.join()
    promised = list(answered)
    crashing.crash()

    def trail() -> list[str]:
        query = "kind:event AND name:CallAudited AND request_id:audited-*"
        return [record.request_id for record in crashing.client.logs.search_logs(query=query, page_size=1000).records]

    until(lambda: set(trail()) >= set(promised))
    assert len(trail()) == len(set(trail()))
    assert len(promised) < 200, "it was killed among them"


def ids(crashing: Crashing, query: str) -> list[str]:
    return [record.record for record in crashing.client.logs.search_logs(query=query).records]
