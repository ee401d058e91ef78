import re
from typing import Any

import pytest

from tests.gateway.conftest import Gateway
from tests.gateway.echo import CHUNKS

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def ask(gateway: Gateway, verb: str, path: str, **options: Any) -> Any:
    async with gateway.client() as client:
        return await client.request(verb, path, **options)


async def test_the_path_names_the_thing(gateway: Gateway) -> None:
    answer = await ask(gateway, "GET", "/v1/models/late")

    assert answer.json()["model"] == "late"
    assert answer.headers["etag"] == '"7"'


async def test_defaults_are_printed_and_long_numbers_are_strings(gateway: Gateway) -> None:
    upload = (await ask(gateway, "GET", "/v1/uploads/1")).json()

    assert upload["state"] == "UPLOAD_STATE_UNSPECIFIED"
    assert upload["committed_size"] == "0"


async def test_a_verb_of_its_own_is_not_taken_for_a_name(gateway: Gateway) -> None:
    undelete = await ask(gateway, "POST", "/v1/models/late:undelete", json={})
    wrong = await ask(gateway, "POST", "/v1/models/late")
    read = await ask(gateway, "GET", "/v1/models/late:undelete")

    assert undelete.json()["model"] == "late"
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "DELETE, GET, HEAD")
    assert (read.status_code, read.headers["allow"]) == (405, "POST")


async def test_a_digest_may_have_a_colon(gateway: Gateway) -> None:
    answer = await ask(gateway, "GET", "/v1/artifacts/sha256:" + "a" * 64)

    assert answer.content == b"".join(CHUNKS)
    assert answer.headers["content-type"] == "text/plain"


async def test_long_work_says_where_to_watch_it(gateway: Gateway) -> None:
    answer = await ask(gateway, "POST", "/v1/models/late:rollback", json={})

    assert answer.status_code == 202
    assert answer.headers["location"] == "/v1/operations/registry-0198"


async def test_an_operation_is_found_by_the_service_in_its_name(gateway: Gateway) -> None:
    found = await ask(gateway, "GET", "/v1/operations/trainer-0198")
    unknown = await ask(gateway, "GET", "/v1/operations/nobody-0198")
    listed = await ask(gateway, "GET", "/v1/operations", params={"service": "trainer"})
    nowhere = await ask(gateway, "GET", "/v1/operations", params={"service": "nobody"})
    unsaid = await ask(gateway, "GET", "/v1/operations")

    assert found.json()["operation"] == "trainer-0198"
    assert (unknown.status_code, unknown.json()["detail"]) == (404, "there is no operation nobody-0198")
    assert listed.status_code == 200
    assert nowhere.json()["violations"][0]["pointer"] == "/service"
    assert re.fullmatch("must be one of .*trainer.*", nowhere.json()["violations"][0]["rule"])
    assert unsaid.status_code == 422


async def test_a_chunk_goes_through_as_it_is(gateway: Gateway) -> None:
    chunk = bytes(range(256)) * 4096
    headers = {"content-type": "application/octet-stream"}
    answer = await ask(gateway, "PUT", "/v1/uploads/1?offset=5", content=chunk, headers=headers)

    call = gateway.services["aimass.v1.Sources"].seen[-1]
    assert answer.json()["committed_size"] == str(len(chunk))
    assert (call.request.offset, call.request.body.content_type) == (5, "application/octet-stream")
    assert call.request.body.data == chunk


async def test_a_wrong_offset_says_what_is_stored(gateway: Gateway) -> None:
    answer = await ask(gateway, "PUT", "/v1/uploads/1?offset=13", content=b"x")

    assert (answer.status_code, answer.json()["code"]) == (416, "wrong_offset")
    assert answer.json()["committed_size"] == 7


@pytest.mark.parametrize(("size", "status"), [(16 * 2**20, 200), (16 * 2**20 + 1, 413)])
async def test_a_chunk_has_at_most_16_mib(gateway: Gateway, size: int, status: int) -> None:
    answer = await ask(gateway, "PUT", "/v1/uploads/1", content=bytes(size))

    assert answer.status_code == status


async def test_a_field_comes_from_one_place(gateway: Gateway) -> None:
    twice = await ask(gateway, "POST", "/v1/models/late:undelete", json={"model": "other"})
    query = await ask(gateway, "POST", "/v1/models?model=late", json={"model": "late"})
    repeated = await ask(gateway, "GET", "/v1/models?page_size=1&page_size=2")

    assert twice.json()["violations"] == [{"pointer": "/model", "rule": "is set by the path"}]
    assert query.json()["violations"] == [{"pointer": "/model", "rule": "belongs in the body"}]
    assert repeated.json()["violations"] == [{"pointer": "/page_size", "rule": "is there twice"}]


async def test_every_unknown_and_wrong_field_is_named(gateway: Gateway) -> None:
    wanted = {"display_name": 5, "projects": ["a", 7], "rate_limit": {"rate": "x", "speed": 1}, "expire_time": "soon"}
    answer = await ask(gateway, "POST", "/v1/api-keys", json=wanted)

    assert answer.status_code == 422
    assert [violation["pointer"] for violation in answer.json()["violations"]] == [
        "/display_name",
        "/projects/1",
        "/rate_limit/rate",
        "/rate_limit/speed",
        "/expire_time",
    ]


async def test_a_read_takes_no_body(gateway: Gateway) -> None:
    answer = await ask(gateway, "GET", "/v1/models/late", content=b"{}")

    assert answer.json()["detail"] == "this request takes no body"


async def test_a_duration_fits_into_the_query(gateway: Gateway) -> None:
    await ask(gateway, "GET", "/v1/operations/trainer-1:wait?timeout=3.5s")

    request = gateway.services["aimass.v1.Operations"].seen[-1].request
    assert (request.timeout.seconds, request.timeout.nanos) == (3, 500_000_000)


async def test_what_goes_with_a_call_is_passed_on(gateway: Gateway) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"idempotency-key": "k1", "if-match": '"3"', "traceparent": trace, "x-request-timeout": "5"}
    await ask(gateway, "DELETE", "/v1/models/late", headers=headers)

    call = gateway.services["aimass.v1.Models"].seen[-1]
    assert call.etag == "3"
    assert call.metadata["idempotency-key"] == "k1"
    assert call.metadata["traceparent"].split("-")[1] == trace.split("-")[1]
    assert call.remaining() < 6


async def test_a_missing_etag_is_asked_for(gateway: Gateway) -> None:
    answer = await ask(gateway, "DELETE", "/v1/models/late")

    assert (answer.status_code, answer.json()["code"]) == (428, "etag_required")


@pytest.mark.parametrize("headers", [{"x-request-timeout": "soon"}, {"x-request-timeout": "-1"}, {"if-match": "\xe4"}])
async def test_a_header_that_cannot_be_read_is_refused(gateway: Gateway, headers: dict[str, str]) -> None:
    sent = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = await ask(gateway, "GET", "/v1/models/late", headers=sent)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_value")


async def test_a_bug_behind_the_door_shows_nothing(gateway: Gateway) -> None:
    answer = await ask(gateway, "GET", "/v1/models/broken")

    assert (answer.status_code, answer.json()["detail"]) == (500, "internal error")
    assert "secret" not in answer.text


async def test_events_come_with_their_data(gateway: Gateway) -> None:
    answer = await ask(gateway, "GET", "/v1/operations/trainer-1:stream")

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.count("data: {") == 3


async def test_lines_come_to_those_who_ask_for_them(gateway: Gateway) -> None:
    answer = await ask(gateway, "GET", "/v1/logs:tail", headers={"accept": "application/x-ndjson"})

    assert len(answer.text.splitlines()) == 3


async def test_a_stream_that_fails_at_once_is_a_problem(gateway: Gateway) -> None:
    answer = await ask(gateway, "GET", "/v1/operations/trainer-missing:stream")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_stream_that_is_cut_says_so_at_its_end(gateway: Gateway) -> None:
    events = await ask(gateway, "GET", "/v1/operations/trainer-cut:stream")
    lines = await ask(gateway, "GET", "/v1/logs:tail?query=cut", headers={"accept": "application/x-ndjson"})

    assert "event: error" in events.text
    assert '"error":{' in lines.text.splitlines()[-1]


async def test_a_download_that_is_cut_does_not_look_whole(gateway: Gateway) -> None:
    with pytest.raises(Exception, match=r"incomplete|closed|disconnect"):
        await ask(gateway, "GET", "/v1/artifacts/sha256:cut")


@pytest.mark.parametrize("accept", ["text/html", "application/xml;q=0.9", "application/json;q=0"])
async def test_what_nobody_takes_is_not_made(gateway: Gateway, accept: str) -> None:
    answer = await ask(gateway, "GET", "/v1/models/late", headers={"accept": accept})

    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/json; charset=latin-1", "application/x-www-form-urlencoded"]
)
async def test_a_body_must_be_json(gateway: Gateway, kind: str) -> None:
    answer = await ask(gateway, "POST", "/v1/models", content=b"{}", headers={"content-type": kind})

    assert answer.status_code == 415


async def test_internal_methods_have_no_route(gateway: Gateway) -> None:
    for path in ("/v1/workers", "/aimass.v1.Workers/LeaseJob", "/v1/releases:snapshot"):
        assert (await ask(gateway, "POST", path, json={})).status_code == 404


async def test_head_is_a_get_without_its_body(gateway: Gateway) -> None:
    answer = await ask(gateway, "HEAD", "/v1/models/late")

    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("GET", "/v1/models/%2e%2e%2fetc", 422),
        ("GET", "/v1/models/a%00b", 422),
        ("GET", "/v1/models/%ff", 422),
        ("GET", "/v1/models/a%2Fversions%2F1", 422),
        ("GET", "/v1/models/a%2fversions", 422),
        ("GET", "/v1/models/a%2frelease", 422),
        ("GET", "/v1/models/a%252Fversions", 422),
        ("POST", "/v1/models/a%2Fversions", 405),
        ("POST", "/v1/models/late%3Aundelete", 405),
        ("GET", "/v1/operations/trainer-1%3Await", 200),
        ("GET", "/v1%2Fmodels/late", 404),
        ("GET", "/v1/models%2Flate", 404),
        ("GET", "/v1/logs%3Acount", 404),
        ("GET", "/v1/data-sets/a/versions/1%2Frows", 422),
    ],
)
async def test_what_a_name_has_encoded_leads_to_no_other_route(
    gateway: Gateway, verb: str, path: str, status: int
) -> None:
    answer = await ask(gateway, verb, path)

    assert answer.status_code == status, answer.text
    if status == 422:
        assert answer.json()["code"] in ("invalid_name", "invalid_value")


async def test_what_is_encoded_in_a_name_arrives_decoded_once(gateway: Gateway) -> None:
    await ask(gateway, "GET", "/v1/artifacts/sha256%3Aab%25cd%2Fef%20g")

    request = gateway.services["aimass.v1.Artifacts"].seen[-1].request
    assert request.digest == "sha256:ab%cd/ef g"
    await ask(gateway, "GET", "/v1/operations/trainer-1%3Await")
    assert gateway.services["aimass.v1.Operations"].seen[-1].request.operation == "trainer-1:wait"


@pytest.mark.parametrize("prefix", ["/v2%2Fhealth/live", "/v2/health%2Flive", "/health%2Flive", "/v2/models%2Flate"])
async def test_fixed_paths_are_not_reached_around_a_corner(gateway: Gateway, prefix: str) -> None:
    assert (await ask(gateway, "GET", prefix)).status_code == 404


async def test_letters_may_be_encoded_in_any_path(gateway: Gateway) -> None:
    answer = await ask(gateway, "GET", "/v1/%6dodels/l%61te")

    assert answer.json()["model"] == "late"


@pytest.mark.parametrize(
    ("verb", "path", "allow"),
    [
        ("PUT", "/v2/models/late", "GET, HEAD"),
        ("POST", "/v2/models/late/ready", "GET, HEAD"),
        ("DELETE", "/v2", "GET, HEAD"),
        ("POST", "/v2/health/live", "GET, HEAD"),
        ("GET", "/v2/models/late/infer", "POST"),
        ("HEAD", "/v2/models/late/infer", "POST"),
        ("PATCH", "/v2/models/late/versions/3/infer", "POST"),
        ("OPTIONS", "/v2/models/late/infer", "POST"),
        ("PUT", "/v2/models/infer", "GET, HEAD"),
        ("POST", "/v2/models/infer", "GET, HEAD"),
        ("POST", "/v2/models/late/versions/infer", "GET, HEAD"),
        ("POST", "/health/ready", "GET, HEAD"),
        ("PUT", "/v1/models", "GET, HEAD, POST"),
        ("POST", "/v1/logs:count", "GET, HEAD"),
        ("GET", "/v1/data-sets:query", "POST"),
        ("POST", "/docs", "GET, HEAD"),
        ("PUT", "/openapi.json", "GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_there_is_told_which_are(gateway: Gateway, verb: str, path: str, allow: str) -> None:
    answer = await ask(gateway, verb, path)

    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert answer.headers["content-type"] == "application/problem+json"
    assert verb == "HEAD" or answer.json()["code"] == "method_not_allowed"
