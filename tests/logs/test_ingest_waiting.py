"""Records whose keys cannot be had wait, and those of other tenants do not wait for them."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from services.kit.auth import Scope
from services.kit.bus import Event, NearBus
from services.kit.errors import Unavailable
from services.kit.event import TELEMETRY
from services.kit.key_store import FolderKeys
from services.kit.secrets import Vault
from services.kit.telemetry import Record as Told
from services.kit.telemetry.otlp import logs, request
from services.kit.tenant_keys import TenantKeys
from services.logs.domain import Record
from services.logs.ingest import api, sealing
from services.logs.ingest.api import TOPICS, Intake
from services.logs.ingest.segments import Position, Segments
from services.logs.ingest.service import Batch, Ingest, numbered_records
from services.logs.tables import records_of
from tests.logs.records import record
from tests.support.house import until

TENANTS = ("acme", "other", "third")


class Lacking(FolderKeys):
    """Keys of which those of some tenants cannot be reached, or all of which take long."""

    lacking: Collection[str] = ()
    takes = 0.0

    async def load(self, tenant: str, known: Collection[int] = ()) -> Mapping[int, bytes]:
        await asyncio.sleep(self.takes)
        if tenant in self.lacking:
            raise Unavailable(f"the keys of {tenant} are away")
        return await super().load(tenant, known)


class Centre:
    """What keeps records, and its store of keys; begins again as after a kill."""

    def __init__(self, home: Path, bus: NearBus, most: int = 2**25) -> None:
        self.home, self.bus, self.most = home, bus, most
        self.lacking: Collection[str] = ()

    async def begin(self) -> "Centre":
        self.store = Lacking(self.home / "keys" / "tenants")
        self.store.lacking = self.lacking
        keys = TenantKeys(self.store, Vault(self.home / "keys"))
        self.ingest = Ingest(Segments(self.home / "records", self.most), keys=keys)
        await self.ingest.open()
        self.task = asyncio.create_task(Intake(self.bus, self.ingest).run())
        return self

    def lack(self, *tenants: str) -> None:
        self.lacking = self.store.lacking = tenants

    async def kill(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.ingest.close()

    async def records(self) -> list[Record]:
        found, position, last = list[Record](), Position(), None
        while position != last:
            last = position
            stored, position = await self.ingest.read(last)
            found += [one for _, one in numbered_records(stored)]
        return found

    async def texts(self, tenant: str = "") -> list[str]:
        return [one.text for one in await self.records() if tenant in ("", one.tenant)]

    async def committed(self) -> int:
        """The offset that the group would begin after."""
        return max((await self.bus.reader(TOPICS, "logs"))._positions.values())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits asks again at once."""
    for module, name in ((api, "_RETRY"), (api, "_EVERY"), (sealing, "_AGAIN")):
        monkeypatch.setattr(module, name, 0.01)


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[NearBus]:
    made = NearBus(tmp_path / "bus.db")
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def centre(tmp_path: Path, bus: NearBus) -> AsyncIterator[Centre]:
    made = await Centre(tmp_path, bus).begin()
    yield made
    await made.kill()


def told(name: str, *lines: tuple[str, str]) -> Event:
    """An event with lines of tenants."""
    body = request(logs([Told("log", "x", text, Scope(tenant)) for tenant, text in lines]))
    kind = "opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest"
    return Event(TELEMETRY, "logs", body, {"ce_id": name, "ce_type": kind})


async def test_others_are_kept_while_one_tenant_s_key_is_away(centre: Centre, bus: NearBus) -> None:
    centre.lack("third")
    await bus.publish([told("e1", ("acme", "a1"), ("third", "t1")), told("e2", ("third", "t2"))])
    await bus.publish([told("e3", ("other", "o3"), ("acme", "a3"), ("third", "t3")), told("e4", ("acme", "a4"))])

    await until(lambda: centre.ingest.sequence == 4)
    await asyncio.sleep(0.1)
    assert sorted(await centre.texts()) == ["a1", "a3", "a4", "o3"]
    assert await centre.committed() == 0

    centre.lack()
    await until(lambda: centre.ingest.sequence == 7)
    assert await centre.texts("third") == ["t1", "t2", "t3"]
    assert await centre.texts("acme") == ["a1", "a3", "a4"]

    async def done() -> bool:
        return await centre.committed() == 4

    await until(done)


async def test_what_came_before_is_committed_and_what_waits_is_not(centre: Centre, bus: NearBus) -> None:
    centre.lack("third")
    await bus.publish([told("e1", ("acme", "a1"))])
    await until(lambda: centre.ingest.sequence == 1)
    await bus.publish([told("e2", ("third", "t2")), told("e3", ("acme", "a3"))])
    await until(lambda: centre.ingest.sequence == 2)

    async def done() -> bool:
        return await centre.committed() == 1

    await until(done)


async def test_a_store_that_does_not_answer_holds_others_up_for_moments(
    centre: Centre, bus: NearBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "_PATIENCE", 0.1)
    await bus.publish([told("e1", ("acme", "a1"))])
    await until(lambda: centre.ingest.sequence == 1)
    centre.store.takes = 3600.0
    await bus.publish([told("e2", ("third", "t2"), ("acme", "a2"))])

    await until(lambda: centre.ingest.sequence == 2)
    centre.store.takes = 0.0
    await until(lambda: centre.ingest.sequence == 3)
    assert await centre.texts() == ["a1", "a2", "t2"]


@pytest.mark.parametrize("back", [True, False], ids=["its key is back", "its key is away"])
async def test_after_a_kill_nothing_is_lost_or_doubled(centre: Centre, bus: NearBus, back: bool) -> None:
    centre.lack("third")
    events = [told(f"e{n}", (TENANTS[n % 2], f"{n}"), ("third", f"{n}")) for n in range(40)]
    await bus.publish(events)
    await until(lambda: centre.ingest.sequence == 40)
    await centre.kill()

    if back:
        centre.lack()
    await centre.begin()
    await bus.publish([told("last", ("acme", "last"))])
    await until(lambda: centre.ingest.sequence >= (81 if back else 41))
    centre.lack()
    await until(lambda: centre.ingest.sequence >= 81)
    await asyncio.sleep(0.1)
    assert await centre.texts("third") == [f"{n}" for n in range(40)]
    assert await centre.texts("acme") == [*(f"{n}" for n in range(0, 40, 2)), "last"]
    assert centre.ingest.sequence == 81


async def test_no_more_pass_than_are_recognised_after_a_restart(tmp_path: Path, bus: NearBus) -> None:
    centre = await Centre(tmp_path, bus, most=20_000).begin()
    centre.lack("third")
    await bus.publish([told("e0", ("third", "first"))])
    await asyncio.sleep(0.1)
    written = 0
    while centre.ingest.may_pass:
        await bus.publish([told(f"e{written + n + 1}", ("acme", f"{written + n}")) for n in range(20)])
        written += 20
        await asyncio.sleep(0.02)
    await bus.publish([told(f"e{written + n + 1}", ("acme", f"{written + n}")) for n in range(200)])
    await asyncio.sleep(0.3)
    passed = centre.ingest.sequence
    assert 50 < passed < written + 64, "two polls more at most"
    await centre.kill()

    await centre.begin()
    centre.lack()
    await until(lambda: centre.ingest.sequence >= written + 201, seconds=20)
    await asyncio.sleep(0.1)
    assert await centre.texts("third") == ["first"]
    assert await centre.texts("acme") == [f"{n}" for n in range(written + 200)]
    await centre.kill()


async def test_restarts_while_records_wait_do_not_let_more_pass(tmp_path: Path, bus: NearBus) -> None:
    """What passed in an earlier life counts as well: files before the last ones are not looked at after a restart."""
    centre = await Centre(tmp_path, bus, most=3_000).begin()
    centre.lack("third")
    await bus.publish([told("e0", ("third", "first"))])
    for n in range(300):
        await bus.publish([told(f"e{n + 1}", ("acme", f"{n}"))])
        if n % 50 == 49:
            await asyncio.sleep(0.3)
            await centre.kill()
            await centre.begin()
    await centre.kill()
    await centre.begin()
    centre.lack()

    await until(lambda: centre.ingest.sequence >= 301, seconds=20)
    await asyncio.sleep(0.1)
    assert await centre.texts("third") == ["first"]
    assert await centre.texts("acme") == [f"{n}" for n in range(300)]
    await centre.kill()


async def test_large_events_that_wait_are_not_heaped_up(
    centre: Centre, bus: NearBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_WAITING", 10_000)
    centre.lack("third")
    for n in range(40):
        await bus.publish([told(f"e{n}", ("third", f"{n} {'x' * 1000}"), ("acme", f"{n}"))])
    await asyncio.sleep(0.5)
    assert 5 < centre.ingest.sequence < 40

    centre.lack()
    await until(lambda: centre.ingest.sequence == 80)
    assert await centre.texts("acme") == [f"{n}" for n in range(40)]


class Reluctant(NearBus):
    """A bus whose commits fail now and then."""

    fails = 0.0

    async def commit(self, group: str, events: Sequence[Event]) -> None:
        if random.random() < self.fails:
            raise Unavailable("the database cannot be reached")
        await super().commit(group, events)


@pytest.fixture(params=range(6))
def chance(request: pytest.FixtureRequest) -> Iterator[random.Random]:
    state = random.getstate()
    random.seed(request.param)
    yield random.Random(request.param)
    random.setstate(state)


async def test_whatever_is_away_and_whenever_it_is_killed_each_is_kept_once_in_order(
    tmp_path: Path, chance: random.Random
) -> None:
    bus = Reluctant(tmp_path / "bus.db")
    await bus.start()
    bus.fails = 0.3
    centre = await Centre(tmp_path, bus, most=5_000).begin()
    wanted, number = defaultdict[str, list[str]](list), 0
    for _ in range(25):
        events = list[Event]()
        for _ in range(chance.randrange(1, 5)):
            lines = [(chance.choice(TENANTS), f"{number}.{n}") for n in range(chance.randrange(1, 6))]
            events.append(told(f"e{number}", *lines))
            number += 1
            for tenant, text in lines:
                wanted[tenant].append(text)
        await bus.publish(events)
        await asyncio.sleep(chance.choice((0, 0.02, 0.05)))
        centre.lack(*chance.sample(TENANTS, chance.randrange(3)))
        if chance.random() < 0.3:
            await centre.kill()
            await centre.begin()
    centre.lack()
    bus.fails = 0.0
    last = sum(map(len, wanted.values()))
    await until(lambda: centre.ingest.sequence >= last, seconds=20)

    async def done() -> bool:
        return await centre.committed() == number

    await until(done)
    assert {tenant: await centre.texts(tenant) for tenant in wanted} == wanted
    await centre.kill()
    await bus.close()


async def test_an_event_that_comes_twice_waits_once(centre: Centre) -> None:
    centre.lack("third")
    both = Batch("e", [record(1, tenant="third"), record(2, tenant="acme")])
    left, why = await centre.ingest.append([both])
    again, _ = await centre.ingest.append([*left, both])
    centre.lack()
    await asyncio.sleep(0.02)
    rest = await centre.ingest.append([*again, both])

    assert "away" in str(why)
    assert [[one.record for one in records_of(batch.records)] for batch in again] == [["r1"]]
    assert rest == ([], None)
    assert [one.record for one in await centre.records()] == ["r2", "r1"]
