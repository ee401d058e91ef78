"""The classic bad inputs on every route of the document: a problem each time, never a bug."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.gateway.conftest import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")
JSON = {"content-type": "application/json"}
BODIES = {
    "deep": b"[" * 100_000,
    "deep object": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "5,000 digits": b'{"page_size": ' + b"7" * 5_000 + b"}",
    "2^63": b'{"page_size": 9223372036854775808}',
    "NaN": b'{"page_size": NaN}',
    "lone surrogate": b'{"display_name": "\\ud800"}',
    "NUL": b'{"display_name": "a\\u0000b", "tenant": "\\u0000", "model": "\\u0000", "x": "\\u0000"}',
    "bad UTF-8": b'{"display_name": "\xff\xfe"}',
    "unknown field": b'{"no_such_field": 1}',
    "wrong type": b'["not an object"]',
}
PARTS = {"version": "1", "digest": "sha256:00"}


def routes(document: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Verb, path, and whether the body is raw bytes."""
    for path, verbs in document["paths"].items():
        if path.startswith("/health"):
            continue
        for verb, operation in verbs.items():
            content = operation.get("requestBody", {}).get("content", {})
            yield (
                verb.upper(),
                re.sub(r"{(\w+)}", lambda m: PARTS.get(m[1], "late"), path),
                "application/octet-stream" in content,
            )


async def document(client: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("/openapi.json")).json()
    return found


def judged(answer: Any, what: str) -> str:
    """What is wrong with an answer to a bad request; empty for nothing."""
    if answer.status_code < 400 or answer.status_code >= 500:
        return f"{what}: {answer.status_code} {answer.text[:100]}"
    if answer.headers["content-type"] != "application/problem+json" or "Traceback" in answer.text:
        return f"{what}: no problem document"
    problem = answer.json()
    return "" if {"code", "detail", "request_id"} <= problem.keys() else f"{what}: {problem}"


async def test_no_body_breaks_a_route(gateway: Gateway) -> None:
    wrong: list[str] = []
    async with gateway.client(**JSON) as client:
        table = list(routes(await document(client)))
        for name, body in BODIES.items():
            answers = await asyncio.gather(*(client.request(verb, path, content=body) for verb, path, _ in table))
            for (verb, path, raw), answer in zip(table, answers, strict=True):
                fine = raw and answer.status_code < 400  # any bytes are a chunk
                wrong += [] if fine else filter(None, [judged(answer, f"{name} at {verb} {path}")])

    assert len(table) > 100
    assert wrong == []


async def test_no_wrong_method_and_no_wrong_content_type_breaks_a_route(gateway: Gateway) -> None:
    wrong: list[str] = []
    async with gateway.client() as client:
        for verb, path, raw in routes(await document(client)):
            method = await client.request("PROPFIND", path)
            wrong += filter(None, [judged(method, f"PROPFIND {path}")])
            assert "allow" in method.headers, path
            if verb not in ("GET", "DELETE") and not raw:
                kind = await client.request(verb, path, content=b"<a/>", headers={"content-type": "text/xml"})
                wrong += filter(None, [judged(kind, f"text/xml at {verb} {path}")])

    assert wrong == []


async def test_no_text_in_path_or_query_breaks_a_route(gateway: Gateway) -> None:
    wrong: list[str] = []
    evil = ("%00", "%ff%fe", "%ed%a0%80", "..%2f..%2fetc", "9" * 5_000, "%F0%9F%98%80", "a" * 10_000)
    async with gateway.client() as client:
        paths = sorted({path for path, verbs in (await document(client))["paths"].items() if "get" in verbs})
        for text in evil:
            for path in paths:
                if "{" in path:
                    answer = await client.get(re.sub(r"{(\w+)}", text, path))
                    wrong += [] if answer.status_code < 500 else [f"{text[:20]} at {path}"]
                elif not path.startswith("/health"):
                    answer = await client.get(f"{path}?page_size={text}&{text}=1")
                    wrong += [] if answer.status_code < 500 else [f"{text[:20]} in the query of {path}"]

    assert wrong == []


async def test_twenty_mebibytes_are_refused_by_every_route(gateway: Gateway) -> None:
    wrong: list[str] = []
    body = b" " * (20 * 2**20)
    async with gateway.client(**JSON) as client:
        for verb, path, _ in routes(await document(client)):
            if verb in ("POST", "PUT", "PATCH"):
                answer = await client.request(verb, path, content=body)
                wrong += [] if answer.status_code in (404, 413) else [f"{verb} {path}: {answer.status_code}"]

    assert wrong == []


async def test_a_chunked_body_is_bounded_too(gateway: Gateway) -> None:
    async def chunks() -> Any:
        for _ in range(20):
            yield b" " * 2**20

    async with gateway.client(**JSON) as client:
        answer = await client.post("/v1/models", content=chunks())

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"
