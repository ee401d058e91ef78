"""Calls of a service with several instances: spread, kept from what is broken, and none lost to one that is gone."""

import asyncio
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest

from services.kit import tasks
from services.kit.breaker import Rules
from services.kit.channels import BalancedChannel, SomeChannel
from services.kit.errors import Code, Disconnected, Failure
from services.kit.member import Instance, Member, plain
from services.kit.pool import PATIENCE, Pool
from tests.support.house import until
from tests.support.speakers import Speaker, several, speakers, who


class Service:
    """Instances, and a channel over all of them."""

    def __init__(self, instances: Sequence[Speaker]) -> None:
        self.instances = instances
        self.pool = Pool("who", [one.instance for one in instances])
        self.channel = BalancedChannel(self.pool)

    async def connected(self, count: int) -> None:
        """Returns when so many are connected."""
        await who(self.channel)
        await until(lambda: sum(member.connected for member in self.pool.members) == count)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with speakers(2) as instances:
        found = Service(instances)
        yield found
        await found.pool.close()


async def test_calls_are_spread_over_the_instances(service: Service) -> None:
    await service.connected(2)

    assert min(Counter(await several(service.channel, 60)).values()) >= 10


async def test_a_busy_instance_is_spared(service: Service) -> None:
    await service.connected(2)
    busy, idle = service.instances
    busy.gate.clear()
    busy.calls = idle.calls = 0
    waiting = [asyncio.ensure_future(who(service.channel)) for _ in range(20)]
    await until(lambda: busy.calls and idle.calls)
    await asyncio.sleep(0.1)

    assert set(await several(service.channel, 30)) == {idle.name}
    busy.gate.set()
    assert busy.name in await asyncio.gather(*waiting)


async def test_one_instance_can_be_called_by_its_name(service: Service) -> None:
    one = SomeChannel(service.pool, ("b",))

    assert set(await several(one, 10)) == {"b"}


async def test_nobody_listening_at_one_address_costs_nothing(service: Service) -> None:
    await service.instances[0].stop()
    started = time.monotonic()

    assert set(await several(service.channel, 20)) == {"b"}
    assert time.monotonic() - started < 1


async def test_an_instance_that_goes_takes_only_its_own_calls_with_it(service: Service) -> None:
    await service.connected(2)
    going, staying = service.instances
    going.gate.clear()
    before = going.calls
    cut = asyncio.ensure_future(who(SomeChannel(service.pool, (going.name,))))
    await until(lambda: going.calls > before)
    await going.stop()

    with pytest.raises(Disconnected):
        await cut
    assert set(await several(service.channel, 30)) == {staying.name}


async def test_an_instance_that_comes_back_is_called_again(service: Service) -> None:
    await service.connected(2)
    await service.instances[0].stop()
    await until(lambda: sum(member.connected for member in service.pool.members) == 1)
    await service.instances[0].start()

    await until(lambda: sum(member.connected for member in service.pool.members) == 2)
    assert set(await several(service.channel, 30)) == {"a", "b"}


async def test_whether_an_instance_is_connected_is_seen_also_after_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_FIRST", 0.01)
    calls = list[bool]()

    def news() -> None:
        calls.append(member.connected)
        if len(calls) == 1:
            raise KeyError("nobody has foreseen it")

    async with speakers(1) as [speaker]:
        member = Member(speaker.instance, plain(speaker.instance.address, "who"), Rules(), news)
        member.connect()
        await until(lambda: calls == [True])
        await speaker.stop()
        await until(lambda: calls == [True, False])
        await member.close()


async def test_a_service_that_is_starting_is_waited_for() -> None:
    async with speakers(1, started=False) as [late]:
        service = Service([late])
        call = asyncio.ensure_future(who(service.channel, 10))
        await asyncio.sleep(0.3)
        await late.start()

        assert await call == "a"
        await service.pool.close()


async def test_a_service_that_never_comes_is_unavailable_at_the_deadline() -> None:
    pool = Pool("who")
    with pytest.raises(Failure, match="who is unavailable") as caught:
        await who(BalancedChannel(pool), 0.2)

    assert (caught.value.code, caught.value.retry_after) == (Code.UNAVAILABLE, 1)


async def test_a_service_that_was_there_and_is_gone_is_refused_at_once(service: Service) -> None:
    await service.connected(2)
    for instance in service.instances:
        await instance.stop()
    await until(lambda: not any(member.connected for member in service.pool.members))
    await asyncio.sleep(PATIENCE)
    started = time.monotonic()

    with pytest.raises(Failure, match="who is unavailable") as caught:
        await who(service.channel, 30)
    assert time.monotonic() - started < 0.5
    assert not isinstance(caught.value, Disconnected)  # it was never sent


async def test_a_short_absence_is_waited_out(service: Service) -> None:
    await service.connected(2)
    for instance in service.instances:
        await instance.stop()
    await until(lambda: not any(member.connected for member in service.pool.members))
    call = asyncio.ensure_future(who(service.channel, 30))
    await asyncio.sleep(0.2)
    await service.instances[0].start()

    assert await call == "a"


async def tripped(service: Service) -> None:
    """The first instance answers badly, until its breaker keeps it out."""
    service.instances[0].broken = True
    assert (await failures(service, 20)) == {"internal": 20}


async def test_beside_one_that_is_kept_out_another_that_connects_is_waited_for() -> None:
    async with speakers(2, started=False) as [one, late]:
        await one.start()
        service = Service([one])
        await tripped(service)
        service.pool.update([one.instance, late.instance])
        call = asyncio.ensure_future(who(SomeChannel(service.pool, (one.name, late.name)), 10))
        await asyncio.sleep(0.2)
        assert not call.done()
        await late.start()

        assert await call == late.name
        await service.pool.close()


async def test_a_new_instance_is_waited_for_longer_than_one_that_was_there() -> None:
    async with speakers(2, started=False) as [one, late]:
        await one.start()
        service = Service([one])
        await service.connected(1)
        service.pool.update([late.instance])
        [new] = service.pool.members
        new.away_since -= PATIENCE + 0.1  # as if this time had passed
        call = asyncio.ensure_future(who(SomeChannel(service.pool, (late.name,)), 10))
        await asyncio.sleep(0.2)
        assert not call.done()
        await late.start()

        assert await call == late.name
        await service.pool.close()


async def failures(service: Service, count: int) -> Counter[str]:
    """How so many calls end, by code."""
    found: Counter[str] = Counter()
    for _ in range(count):
        try:
            await who(service.channel)
            found["ok"] += 1
        except Failure as failure:
            found[failure.code.text] += 1
    return found


async def test_an_instance_that_answers_badly_is_kept_out(service: Service) -> None:
    await service.connected(2)
    service.instances[0].broken = True
    await failures(service, 100)

    assert set(await several(service.channel, 20)) == {"b"}


async def test_at_most_half_of_a_pool_is_kept_out(service: Service) -> None:
    await service.connected(2)
    for instance in service.instances:
        instance.broken = True
    await failures(service, 150)

    assert await failures(service, 10) == {"internal": 10}  # answered, not refused


async def test_the_only_instance_is_kept_out_when_it_answers_badly() -> None:
    async with speakers(1) as [one]:
        service = Service([one])
        one.broken = True
        assert (await failures(service, 20)) == {"internal": 20}

        assert (await failures(service, 10)) == {"unavailable": 10}
        assert one.calls == 20
        await service.pool.close()


async def test_an_instance_that_leaves_ends_its_calls_and_gets_no_more(service: Service) -> None:
    await service.connected(2)
    leaving, staying = service.instances
    leaving.gate.clear()
    before = leaving.calls
    last = asyncio.ensure_future(who(SomeChannel(service.pool, (leaving.name,))))
    await until(lambda: leaving.calls > before)
    service.pool.update([staying.instance])

    assert set(await several(service.channel, 30)) == {staying.name}
    leaving.gate.set()
    assert await last == leaving.name


async def test_an_instance_that_joins_is_called(service: Service) -> None:
    service.pool.update([service.instances[0].instance])
    assert set(await several(service.channel, 5)) == {"a"}
    service.pool.update([one.instance for one in service.instances])

    await service.connected(2)
    assert set(await several(service.channel, 30)) == {"a", "b"}


async def test_new_connections_break_no_call(service: Service) -> None:
    await service.connected(2)
    calls = [asyncio.ensure_future(several(service.channel, 50)) for _ in range(4)]
    for _ in range(3):
        await asyncio.sleep(0.02)
        service.pool.renew()

    assert [len(answers) for answers in await asyncio.gather(*calls)] == [50] * 4


async def test_a_call_that_is_given_up_leaves_no_trace(service: Service) -> None:
    await service.connected(2)
    for instance in service.instances:
        instance.gate.clear()
    call = asyncio.ensure_future(who(service.channel))
    await until(lambda: any(member.load for member in service.pool.members))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert [member.load for member in service.pool.members] == [0, 0]


async def test_who_lost_a_call_is_not_the_next_one_and_soon_called_again(service: Service) -> None:
    first = service.instances[0]
    await service.connected(2)
    first.lost = True
    with pytest.raises(Disconnected):
        await who(SomeChannel(service.pool, (first.name,)))

    assert first.name not in await several(service.channel, 10)
    first.lost = False
    await until(lambda: len([one for one in service.pool.members if one.connected]) == 2)
    assert first.name in await several(service.channel, 30)


async def test_a_frozen_process_takes_only_its_own_calls_with_it(
    service: Service, process: tuple[Instance, subprocess.Popen[bytes]]
) -> None:
    instance, program = process
    frozen = SomeChannel(service.pool, (instance.id,))
    service.pool.update([instance, *(one.instance for one in service.instances)])
    await service.connected(3)
    program.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(Disconnected):
        await who(frozen, 60)

    assert time.monotonic() - began < 15  # four seconds, and what a busy machine adds
    assert set(await several(service.channel, 30)) == {"a", "b"}
    program.send_signal(signal.SIGCONT)
    await service.connected(3)
    assert await who(frozen) == instance.id


async def test_one_that_leaves_is_called_until_another_is_connected(service: Service) -> None:
    await service.connected(2)
    leaving, late = service.instances
    await late.stop()
    await until(lambda: sum(member.connected for member in service.pool.members) == 1)
    service.pool.update([late.instance])

    assert await several(service.channel, 5) == [leaving.name] * 5
    assert await who(SomeChannel(service.pool, (leaving.name, late.name))) == leaving.name
    assert [member.instance for member in service.pool.leaving] == [leaving.instance]
    await late.start()
    await until(lambda: any(member.connected for member in service.pool.members))
    assert set(await several(service.channel, 10)) == {late.name}


async def test_one_that_has_left_and_hung_up_is_called_no_more(service: Service) -> None:
    await service.connected(2)
    service.pool.update([])
    for instance in service.instances:
        await instance.stop()
    await until(lambda: not service.pool.leaving)
    began = time.monotonic()

    with pytest.raises(Failure, match="who is unavailable"):
        await who(service.channel)
    assert time.monotonic() - began < PATIENCE + 1


async def test_new_connections_take_over_without_a_gap(service: Service) -> None:
    await service.connected(2)
    for _ in range(5):
        service.pool.renew()
        assert set(await several(service.channel, 5)) <= {"a", "b"}


async def test_of_several_renewals_only_the_last_connection_is_kept_at_hand(service: Service) -> None:
    await service.connected(2)
    for _ in range(3):
        service.pool.renew()
        await service.connected(2)
    service.pool.renew()
    service.pool.renew()

    assert len(service.pool.leaving) == 2
    assert set(await several(service.channel, 20)) == {"a", "b"}
    await service.connected(2)
    await until(lambda: not service.pool.leaving)
