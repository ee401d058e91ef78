"""What the gateway takes for a request, and what the strict reading of the same bytes says."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from urllib.parse import urlsplit

import pytest

from tests.fuzz import strict
from tests.fuzz.framings import Framings, Sent
from tests.fuzz.wire import Answer, ask
from tests.gateway.conftest import Gateway, gateway

__all__ = ["gateway"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
COUNT = int(os.environ.get("AIMASS_FUZZ_FRAMINGS", "500"))
SEED = int(os.environ.get("AIMASS_FUZZ_SEED", "1"))
_AT_ONCE = 16
_SILENCE = 0.3  # seconds; what is incomplete has no answer yet


def judge(sent: Sent, taken: list[str], answers: list[Answer]) -> str:
    """What is wrong with what was `taken` for a request, or with the answers; empty if nothing."""
    meant = strict.read(sent.data)
    names = [message.header(b"x-request-id").decode("latin-1") for message in meant]
    if taken != [name for name in names if name in taken]:
        return f"taken were {taken}, but it says {names}"
    if len(answers) > len(meant) + 1:
        return f"{len(answers)} answers to {len(meant)} requests"
    for answer in answers:
        if answer.status >= 500:
            return f"answered with {answer.status}"
        if answer.status == 200 and answer.name == sent.names[0]:
            asked = next(message for message, name in zip(meant, names, strict=True) if name == answer.name)
            if asked.method == b"POST" and not json.loads(asked.body).items() <= json.loads(answer.body).items():
                return f"another body was read: {answer.body[:200]!r}"
    return ""


async def disagreements(gateway: Gateway, framings: Iterator[Sent]) -> tuple[list[str], Counter[int]]:
    """Sends all of them; what two readers see differently, and how the odd ones were answered."""
    port = urlsplit(gateway.doors["http"]).port or 0
    counted = gateway.services["aimass.v1.Models"].seen
    found, statuses = [], Counter[int]()

    async def send_some() -> None:
        for sent in framings:
            answers = await ask(port, sent.data, _SILENCE)
            taken = [call.request_id for call in counted if call.request_id in sent.names]
            counted[:] = [call for call in counted if call.request_id not in sent.names]
            statuses[answers[0].status if answers else 0] += 1
            if wrong := judge(sent, taken, answers):
                found.append(f"{wrong}: {sent.data!r}")

    await asyncio.gather(*(send_some() for _ in range(_AT_ONCE)))
    return found, statuses


async def test_nothing_is_taken_for_a_request_that_does_not_say_beyond_doubt_that_it_is_one(gateway: Gateway) -> None:
    source = Framings(SEED, gateway.admin)
    found, statuses = await disagreements(gateway, islice(iter(source.next, None), COUNT))
    print(f"{COUNT} framings, seed {SEED}: {len(found)} disagreements, answers {dict(statuses)}")
    assert not found, "\n".join(found[:5])
    assert statuses[200] > COUNT / 20
    assert statuses[400] > COUNT / 20
