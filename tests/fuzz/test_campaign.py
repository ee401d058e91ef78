"""A few shots of each kind at a real installation, and what of it would be seen if it were wrong."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.fuzz.campaign import KINDS, Campaign
from tests.fuzz.findings import Kept
from tests.fuzz.frames import Frames
from tests.fuzz.messages import Messages
from tests.fuzz.raw import Shots, replay
from tests.fuzz.target import Target, target
from tests.fuzz.vitals import Bound


@pytest.fixture(scope="module")
def aimed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("aimed")) as found:
        yield found


def ignore(number: int, what: str, data: bytes) -> None:
    """Nobody is told."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_shots_of_each_kind_find_nothing(aimed: Target, tmp_path: Path, kind: str) -> None:
    kept, counts = Kept(tmp_path, lambda: aimed.secrets), list[int]()
    campaign = Campaign(aimed, kept, 4)
    fired = asyncio.run(campaign.run(kind, 0, 60, counts.append))
    campaign.end()

    assert [finding.what for finding in kept.found] == []
    assert (fired.shots, counts) == (60, [20, 40, 60])
    assert fired.said.total() >= 40


def test_what_rises_is_fired_at_for_longer_before_it_is_a_finding(aimed: Target, tmp_path: Path) -> None:
    kept, counts = Kept(tmp_path, lambda: aimed.secrets), list[int]()
    campaign = Campaign(aimed, kept, 8, Bound(memory=-1e6))
    fired = asyncio.run(campaign.run("frames", 0, 180, counts.append))

    assert (fired.shots, counts) == (270, [*range(20, 270, 20), 270])
    assert [finding.what.partition(" by ")[0] for finding in kept.found] == ["memory rises"]


def test_a_slow_machine_fires_fewer(aimed: Target, tmp_path: Path) -> None:
    campaign = Campaign(aimed, Kept(tmp_path, lambda: aimed.secrets), 5)
    fired = asyncio.run(campaign.run("frames", 0, 1000, lambda done: None, last=0.0))
    assert 0 < fired.shots < 1000


def test_a_target_that_makes_no_room_for_more_shots_is_a_finding(
    aimed: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(tmp_path, lambda: aimed.secrets)
    monkeypatch.setattr(aimed, "_tenants", 0)  # so that it is to begin in a new tenant
    with aimed.server.client(aimed.stranger) as client:
        monkeypatch.setattr(aimed, "_client", client)
        fired = asyncio.run(Campaign(aimed, kept, 7).run("frames", 0, 60, lambda done: None))

    assert (fired.shots, fired.findings) == (0, 1)
    assert "after 0 shots nothing could be fired: Failure: unauthenticated" in kept.found[0].what


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_the_same_number_makes_the_same_shot(aimed: Target, number: int) -> None:
    assert Frames(aimed, 1, ignore).make(number) == Frames(aimed, 1, ignore).make(number)
    assert Messages(aimed, 1, ignore).make(number) == Messages(aimed, 1, ignore).make(number)
    first, second = (Shots(aimed, 6).make(number) for _ in range(2))
    assert len(first.damaged) == len(second.damaged)  # signatures are of their second


async def test_the_bytes_of_a_finding_are_answered_again(aimed: Target) -> None:
    data = b"GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + aimed.key.encode() + b"\r\n\r\n"
    assert '"tenant":"fuzz1"' in await replay(aimed, aimed.secrets.hide(data))


def test_what_an_installation_writes_of_bugs_is_found_once(aimed: Target) -> None:
    assert aimed.wrong() == []
    [log] = [path for path in (aimed.server.home / "logs").glob("*.log") if path.name != "access.log"]
    with log.open("a") as file:
        file.write('{"severity": "ERROR", "message": "unhandled error"}\n')

    assert len(aimed.wrong()) == 1
    assert aimed.wrong() == []


def test_what_others_have_may_not_change(aimed: Target) -> None:
    assert aimed.trespasses() == []
    own = {"authorization": f"Bearer {aimed.admin}"}
    httpx2.post(f"{aimed.server.url}/v1/models", json={"model": "new"}, headers=own, timeout=30).raise_for_status()

    assert aimed.trespasses() == ["models of another tenant has changed"]


def test_a_tenant_in_which_nothing_can_be_done_any_more_is_left(aimed: Target) -> None:
    left = aimed.key
    aimed.renew()
    assert aimed.key == left
    key = left.split("_")[1]
    tag = aimed.get(f"/v1/api-keys/{key}", left).headers["etag"]
    with httpx2.Client(base_url=aimed.server.url, headers={"authorization": f"Bearer {left}"}, timeout=30) as own:
        own.delete(f"/v1/api-keys/{key}", headers={"if-match": tag}).raise_for_status()
    aimed.renew()

    assert aimed.key != left
    assert aimed.get("/v2/models/m", aimed.key).status_code == 200
