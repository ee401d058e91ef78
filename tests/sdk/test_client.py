from datetime import UTC, datetime

import pytest

import aimass
from aimass import Client, Failure
from aimass.v1 import models_pb2
from tests.sdk.conftest import Door


def test_a_call_goes_where_the_contract_says_and_gives_its_message(door: Door, client: Client) -> None:
    door.say({"model": "late", "latest_version": 3, "of_a_newer_server": 1})

    assert client.models.get_model(model="late") == models_pb2.Model(model="late", latest_version=3)
    (asked,) = door.asked
    assert (asked.method, asked.path) == ("GET", "/v1/models/late")
    assert asked.headers["authorization"] == "Bearer aim_key"
    assert asked.headers["x-project"] == "default"
    assert "idempotency-key" not in asked.headers


def test_a_keyed_call_keeps_its_key_over_all_tries(door: Door, client: Client) -> None:
    door.refuse(503, "unavailable", retry_after_ms=10).break_off().refuse(429, "rate_limited").say({"model": "late"})

    client.models.create_model(model="late", description="flights that arrive late")
    keys = {asked.headers["idempotency-key"] for asked in door.asked}
    assert len(door.asked) == 4
    assert len(keys) == 1
    assert door.asked[0].json == {"model": "late", "description": "flights that arrive late"}


def test_two_calls_have_two_keys(door: Door, client: Client) -> None:
    door.say({})
    client.models.create_model(model="a")
    client.models.create_model(model="b", idempotency_key="mine")
    assert door.asked[0].headers["idempotency-key"] != door.asked[1].headers["idempotency-key"] == "mine"


def test_a_failure_says_everything_that_the_server_said(door: Door, client: Client) -> None:
    violations = [{"pointer": "/columns/0/name", "rule": "must be set"}]
    door.refuse(422, "invalid_value", "columns.0.name must be set", request_id="r-9", violations=violations)

    with pytest.raises(Failure) as caught:
        client.models.get_model(model="late")
    assert (caught.value.code, caught.value.status, caught.value.request_id) == ("invalid_value", 422, "r-9")
    assert caught.value.violations == (aimass.Violation("/columns/0/name", "must be set"),)
    assert str(caught.value) == "invalid_value: columns.0.name must be set (request r-9)"


def test_an_answer_that_is_no_problem_document_is_named_by_its_status(door: Door, client: Client) -> None:
    door.say(b"<html>", 502)

    with pytest.raises(Failure, match="status 502"):
        client.models.get_model(model="late")


def test_nothing_there_is_said_with_the_address(free_port: int) -> None:
    with Client(f"http://127.0.0.1:{free_port}", "aim_key") as client, pytest.raises(Failure) as caught:
        client.models.get_model(model="late", timeout=0.3)
    assert caught.value.code == "unavailable"
    assert str(free_port) in caught.value.detail


def test_a_server_that_wants_more_time_than_there_is_is_not_waited_for(door: Door, client: Client) -> None:
    door.refuse(429, "rate_limited", retry_after_ms=60_000)

    with pytest.raises(Failure) as caught:
        client.models.get_model(model="late", timeout=1)
    assert caught.value.retry_after == 60
    assert len(door.asked) == 1


def test_a_deletion_needs_the_etag_that_was_seen(door: Door, client: Client) -> None:
    door.say({})
    with pytest.raises(TypeError, match="needs etag"):
        client.models.delete_model(model="late")  # type: ignore[call-arg]
    client.models.delete_model(model="late", etag="7")
    assert door.asked[0].headers["if-match"] == '"7"'


def test_an_iterator_goes_through_all_pages(door: Door, client: Client) -> None:
    door.say({"models": [{"model": "a"}, {"model": "b"}], "next_page_token": "t"}).say({"models": [{"model": "c"}]})

    assert [model.model for model in client.models.iterate_models(page_size=2)] == ["a", "b", "c"]
    assert [asked.query.get("page_token") for asked in door.asked] == [None, ["t"]]


def test_a_stream_gives_one_message_after_the_other_until_it_fails(door: Door, client: Client) -> None:
    problem = b'{"error":{"title":"Unavailable","status":503,"code":"unavailable","detail":"away"}}'
    door.say(b'{"text":"one"}\n\n{"text":"two"}\n' + problem + b"\n")
    records = client.logs.tail_logs(query="kind:log")

    assert [next(records).text, next(records).text] == ["one", "two"]
    with pytest.raises(Failure, match="away"):
        next(records)
    assert door.asked[0].headers["accept"] == "application/x-ndjson"


def test_a_stream_that_is_refused_fails_like_a_call(door: Door, client: Client) -> None:
    door.refuse(422, "query_invalid", "the query ends in a bracket")
    with pytest.raises(Failure, match="query_invalid"):
        next(iter(client.logs.tail_logs(query="(")))


def test_times_and_enums_are_written_as_the_contract_wants(door: Door, client: Client) -> None:
    door.say({})
    client.logs.search_logs(query="x", since=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    client.sources.create_source(source="a", files={"pattern": "*.csv", "format": "csv"})

    assert door.asked[0].query["since"] == ["2026-01-02T03:04:05Z"]
    assert door.asked[1].json["files"]["format"] == "FILE_FORMAT_CSV"


def test_what_the_client_has_can_be_listed(client: Client) -> None:
    assert {"models", "sources", "feature_sets", "upload", "predict"} <= set(dir(client))
    assert {"get_model", "iterate_models"} <= set(dir(client.models))
    assert "not_found" in str(client.sources.get_source.__doc__)
    with pytest.raises(AttributeError, match="has no modles; it has access"):
        _ = client.modles  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="models has no get"):
        _ = client.models.get  # type: ignore[attr-defined]


def test_the_package_offers_only_what_it_names() -> None:
    assert all(getattr(aimass, name) for name in aimass.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Clinet'"):
        _ = aimass.Clinet


def test_the_default_patience_of_a_client_reaches_every_call(door: Door) -> None:
    door.say({})
    with Client(door.url, "aim_key", project="lab", timeout=7) as client:
        client.models.get_model(model="late")
        client.operations.wait_operation(operation="data-1")
    assert door.asked[0].headers["x-request-timeout"] == "7"
    assert door.asked[0].headers["x-project"] == "lab"
    assert "timeout" not in door.asked[1].query


def test_who_is_told_to_come_back_with_a_stream_or_a_download_does(door: Door, client: Client) -> None:
    door.refuse(429, "rate_limited", retry_after_ms=10).refuse(503, "overloaded").say(b'{"text":"one"}\n')
    assert [record.text for record in client.logs.tail_logs()] == ["one"]
    assert len(door.asked) == 3

    door.answers[:] = []
    door.refuse(429, "rate_limited").say(b"content")
    assert client.download(run="r", artifact="a.bin") == b"content"


def test_a_stream_is_asked_for_again_no_longer_than_the_call_may_take(door: Door) -> None:
    door.refuse(429, "rate_limited", "too often", retry_after_ms=60_000)
    with Client(door.url, "aim_key", timeout=5) as client, pytest.raises(Failure, match="too often"):
        next(client.logs.tail_logs())
    assert len(door.asked) == 1


def test_the_first_answer_to_a_stream_counts_among_what_the_call_may_take(door: Door) -> None:
    door.pause = 0.7
    door.refuse(503, "overloaded")
    with Client(door.url, "aim_key", timeout=1) as client, pytest.raises(Failure):
        next(client.logs.tail_logs())
    assert len(door.asked) <= 2  # the second began before the time was over, no third one did
