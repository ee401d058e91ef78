"""What callers have already, what they take packed, and what pages of other origins may see."""

import gzip
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from aimass.receipts import asking
from services.gateway.api.negotiation import Lasting, known
from tests.gateway.conftest import FAST, Gateway, gateway_at

pytestmark = pytest.mark.asyncio(loop_scope="module")
BROWSERS = {"connection", "date", "vary", "x-content-type-options"}  # for them, not for their pages
APP = "https://app.example"
LIMIT = {"level": "LIMIT_LEVEL_TENANT", "counts": "LIMIT_COUNT_REQUESTS", "rate": 1000, "burst": 1000}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """One that lets pages of an origin call."""
    env = FAST | {"AIMASS_GATEWAY_ALLOWED_ORIGINS": APP}
    async with gateway_at(tmp_path_factory.mktemp("home"), **env) as found:
        async with found.client() as client:
            for name in ("known", *(f"more-{number}" for number in range(20))):
                assert (await client.put(f"/v1/limits/{name}", json=LIMIT)).status_code == 200
        yield found


@pytest.mark.parametrize(
    ("said", "has"),
    [('"3"', True), ('W/"3"', True), ('"1", "3"', True), ("3", True), ("*", True), ('"4"', False), ("", False)],
)
async def test_an_etag_is_named_in_many_ways(said: str, has: bool) -> None:
    assert known(said, "3") is has


async def test_what_has_not_changed_is_not_sent_again(open_gateway: Gateway) -> None:
    async with open_gateway.client() as client:
        first = await client.get("/v1/limits/known")
        again = await client.get("/v1/limits/known", headers={"if-none-match": first.headers["etag"]})
        other = await client.get("/v1/limits/known", headers={"if-none-match": '"99"'})

    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert (other.status_code, other.json()) == (200, first.json())


async def test_the_document_is_sent_once_and_packed_for_who_takes_that(open_gateway: Gateway) -> None:
    async with open_gateway.client(**{"accept-encoding": "identity"}) as client:
        plain = await client.get("/openapi.json")
        again = await client.get("/openapi.json", headers={"if-none-match": plain.headers["etag"]})
        packed = await client.get("/openapi.json", headers={"accept-encoding": "br, gzip;q=0.5"})

    assert (again.status_code, again.content, again.headers["vary"]) == (304, b"", "accept-encoding")
    assert (packed.headers["content-encoding"], packed.headers["vary"]) == ("gzip", "accept-encoding")
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < len(plain.content) / 4


async def test_a_document_that_stays_is_packed_once() -> None:
    document = Lasting(b"the same " * 1000)
    headers: list[dict[str, str]] = [{}, {}, {}]
    first, again, plain = (document.form(accept, said) for accept, said in zip(("gzip", "*", ""), headers, strict=True))

    assert first is again
    assert (gzip.decompress(first), plain) == (document.plain, document.plain)
    assert [said.get("content-encoding") for said in headers] == ["gzip", "gzip", None]


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [("gzip", "gzip"), ("*", "gzip"), ("gzip;q=0", None), ("gzip;q=0, *", None), ("identity", None), ("", None)],
)
async def test_long_lists_are_packed_for_who_takes_that(
    open_gateway: Gateway, accept: str, encoding: str | None
) -> None:
    async with open_gateway.client(**{"accept-encoding": accept}) as client:
        answer = await client.get("/v1/limits")

    assert answer.headers.get("content-encoding") == encoding
    assert len(answer.json()["limits"]) == 21


async def test_what_is_short_changes_something_or_has_an_etag_is_not_packed(open_gateway: Gateway) -> None:
    async with open_gateway.client(**{"accept-encoding": "gzip"}) as client:
        answers = [
            await client.get("/v1/whoami"),
            await client.get("/v1/limits/known"),
            await client.put("/v1/limits/known", json=LIMIT, headers={"if-match": "*"}),
        ]

    assert ["content-encoding" in answer.headers for answer in answers] == [False] * 3


async def test_a_page_of_an_allowed_origin_asks_without_a_key_and_sees_answers(open_gateway: Gateway) -> None:
    asked = {
        "origin": APP,
        "access-control-request-method": "PATCH",
        "access-control-request-headers": "authorization,if-match",
    }
    async with open_gateway.client("", **asked) as client:
        told = await client.options("/v1/models/late")
    async with open_gateway.client(origin=APP, **{"sec-fetch-site": "cross-site"}) as client:
        seen, missing = await client.get("/v1/whoami"), await client.get("/v1/nowhere")

    assert told.status_code == 200
    assert "PATCH" in told.headers["access-control-allow-methods"]
    assert told.headers["access-control-allow-headers"] == "authorization,if-match"
    for answer in (told, seen, missing):
        assert (answer.headers["access-control-allow-origin"], answer.headers["vary"]) == (APP, "origin")
        assert "access-control-allow-credentials" not in answer.headers
    assert (seen.status_code, missing.status_code) == (200, 404)


async def test_such_a_page_can_read_all_that_answers_say_to_their_callers(open_gateway: Gateway) -> None:
    asks = {"origin": APP, "sec-fetch-site": "cross-site"}
    async with open_gateway.client(**asks) as client, open_gateway.client("", **asks) as stranger:
        answers = [
            await client.get("/v1/limits/known", headers=asking(b"")),
            await client.patch("/v1/limits"),
            await stranger.get("/v1/whoami"),
        ]

    assert [answer.status_code for answer in answers] == [200, 405, 401]
    names = {name for answer in answers for name in answer.headers if not name.startswith("access-control-")}
    assert {"signature", "signature-input", "content-digest", "allow", "www-authenticate"} <= names
    shown = set(answers[0].headers["access-control-expose-headers"].split(", "))
    assert names - shown <= {"cache-control", "content-type", "content-length"} | BROWSERS


@pytest.mark.parametrize("headers", ["authorization\tx", "a b", "x" * 3000, "*"])
async def test_names_of_headers_that_are_none_are_not_repeated(open_gateway: Gateway, headers: str) -> None:
    asked = {"origin": APP, "access-control-request-method": "GET", "access-control-request-headers": headers}
    async with open_gateway.client("", **asked) as client:
        assert "access-control-allow-headers" not in (await client.options("/v1/models")).headers


async def test_another_origin_is_told_nothing(open_gateway: Gateway) -> None:
    asked = {"origin": "https://evil.example", "access-control-request-method": "GET"}
    async with open_gateway.client("", **asked) as client:
        refused = await client.options("/v1/models")
    async with open_gateway.client() as client:
        own = await client.get("/v1/whoami")

    assert (refused.status_code, refused.json()["code"]) == (403, "origin_denied")
    assert not [name for answer in (refused, own) for name in answer.headers if name.startswith("access-control")]


async def test_a_question_that_is_none_of_a_browser_needs_a_key_as_ever(open_gateway: Gateway) -> None:
    async with open_gateway.client("") as client:
        assert (await client.options("/v1/models")).status_code == 401
        assert (await client.options("/v1/models", headers={"origin": APP})).status_code == 401
