"""Records of tenants with a filter: clean before they are on the disk, in the index, or told to anybody."""

from pathlib import Path
from typing import Any

from aimass.v1 import gateway_events_pb2 as events
from aimass.v1 import privacy_pb2 as pb
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.telemetry import Record
from tests.logs.conftest import ACME, found, logs, tell
from tests.support.house import House

MASK, HASH, REFUSE = pb.PRIVACY_ACTION_MASK, pb.PRIVACY_ACTION_HASH, pb.PRIVACY_ACTION_REFUSE


async def told(
    centre: House,
    action: Any = MASK,
    generation: int = 1,
    tenant: Scope = ACME,
    gone: bool = False,
) -> None:
    """What a gateway says of a filter, heard."""
    now = centre.runtime.now()
    wire = pb.PrivacyFilter(privacy_filter="mine", streams=["trainer/*"])
    wire.rules.add(detector="email", action=action)
    if gone:
        wire.delete_time.FromDatetime(now)
    changed = events.PrivacyFilterChanged(privacy_filter=wire, generation=generation)
    await centre.runtime.bus.publish([Event.of(changed, tenant, "privacy-filters", "mine", "gateway", now)])
    await found(centre, f"kind:event AND attributes.generation:{generation}", tenant=tenant.tenant)


def line(text: str, service: str = "trainer", scope: Scope = ACME, name: str = "jobs", **attributes: str) -> Record:
    return Record("log", name, text, scope, attributes, service=service)


def nowhere(home: Path, canary: bytes) -> bool:
    """Whether no file of the store of records, nor the index, has it."""
    return not [path for path in (home / "logs-store").rglob("*") if path.is_file() and canary in path.read_bytes()]


async def test_lines_of_the_streams_of_a_filter_are_clean_and_others_are_not(centre: House) -> None:
    await told(centre)
    await tell(
        centre,
        line("first eve@example.com", user="eve@example.com", count="3"),
        line("second eve@example.com", service="data"),
        line("third eve@example.com", scope=Scope("other")),
    )
    (first,) = await found(centre, "first")
    (second,) = await found(centre, "second")
    (third,) = await found(centre, "third", tenant="other")

    assert (first.text, first.attributes["user"], first.attributes["count"]) == ("first [email]", "[email]", "3")
    assert (second.text, third.text) == ("second eve@example.com", "third eve@example.com")


async def test_what_was_masked_is_in_no_file_of_the_store(centre: House) -> None:
    await told(centre)
    await tell(centre, line("heard mallory@example.com", name="from mallory@example.com"))
    await found(centre, "heard")

    assert nowhere(centre.runtime.home, b"mallory")


async def test_a_filter_that_refuses_masks_lines(centre: House) -> None:
    await told(centre, REFUSE)
    await tell(centre, line("first eve@example.com"))

    assert (await found(centre, "first"))[0].text == "first [email]"


async def test_the_same_value_has_the_same_hash_in_all_lines(centre: House) -> None:
    await told(centre, HASH)
    await tell(centre, line("first eve@example.com"), line("second EVE@example.com"))
    (first,), (second,) = await found(centre, "first"), await found(centre, "second")

    assert first.text.removeprefix("first ") == second.text.removeprefix("second ")
    assert first.text.startswith("first [email:")


async def test_a_change_counts_from_its_event_on_and_an_older_one_does_not(centre: House) -> None:
    await told(centre, generation=2)
    await told(centre, HASH, generation=1)
    await tell(centre, line("first eve@example.com"))
    await found(centre, "first")
    await told(centre, gone=True, generation=3)
    await tell(centre, line("second eve@example.com"))

    assert (await found(centre, "first"))[0].text == "first [email]"
    assert (await found(centre, "second"))[0].text == "second eve@example.com"


async def test_a_log_centre_that_starts_again_knows_the_filters(tmp_path: Path) -> None:
    async with logs(tmp_path) as first:
        await told(first)
    async with logs(tmp_path) as second:
        await tell(second, line("first eve@example.com"))
        assert (await found(second, "first"))[0].text == "first [email]"
