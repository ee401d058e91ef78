"""Calls made up from the document itself find no bug, and no error that is not a problem document."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core.result import Ok

from tests.gateway.conftest import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")
EXAMPLES = 2


def send(client: httpx2.Client, case: Any) -> httpx2.Response:
    """One made-up call."""
    made_up = {name.lower(): str(value).strip() for name, value in (case.headers or {}).items()}
    headers = {name: value.encode("latin-1", "replace") for name, value in made_up.items() if value.isprintable()}
    headers.pop("authorization", None)
    body = b"" if isinstance(case.body, type(schemathesis.core.NOT_SET)) else case.body
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()  # unlike faster writers it writes numbers of any size
    if body:
        headers["content-type"] = str(case.media_type or "application/json").encode()
    query = {name: value for name, value in (case.query or {}).items() if not isinstance(value, dict)}
    return client.request(case.method, case.formatted_path, params=query, content=body, headers=list(headers.items()))


def judge(case: Any, answer: httpx2.Response) -> None:
    """Fails for what no caller may see."""
    what = f"{case.method} {case.formatted_path}: {answer.status_code} {answer.text[:300]}"
    assert answer.status_code < 500 or answer.status_code == 503, what
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", what
        assert answer.json()["code"], what


def explore(document: dict[str, Any], base: str, key: str) -> int:
    """Calls every operation with some made-up requests; returns how many calls were made."""
    count = 0
    limits = settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    own = {"authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=base, headers=own, timeout=30) as client:
        for found in schemathesis.openapi.from_dict(document).get_all_operations():
            assert isinstance(found, Ok)
            operation = found.ok()

            @given(case=operation.as_strategy())
            @limits
            def call(case: Any) -> None:
                nonlocal count
                count += 1
                judge(case, send(client, case))

            try:
                call()
            except Unsatisfiable:
                continue
    return count


# The generator of requests draws random numbers of its own.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
async def test_made_up_calls_find_no_bug(gateway: Gateway) -> None:
    async with gateway.client() as client:
        document = (await client.get("/openapi.json")).json()
    count = await asyncio.to_thread(explore, document, gateway.doors["http"], gateway.admin)

    assert count > sum(len(verbs) for verbs in document["paths"].values())
