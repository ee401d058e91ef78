"""Real instances of which one fails, refuses or is slow: found by the calls that it gets, and left out."""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.kit.balancing import Way
from services.kit.breaker import State
from services.kit.calls import CallTable
from services.kit.channels import BalancedChannel
from services.kit.config import ConfigError
from services.kit.ejection import Ejection, watch
from services.kit.errors import Failure
from services.kit.outliers import EjectionRules
from services.kit.pool import Pool
from services.kit.telemetry.metrics import REGISTRY
from tests.support.house import house, until
from tests.support.speakers import Speaker, speakers, who

RULES = EjectionRules(interval=10, calls=20)


class Service:
    """Three instances that have turns, and a clock that a test moves."""

    def __init__(self, instances: list[Speaker], rules: EjectionRules = RULES) -> None:
        self.instances, self.now, self.rules = instances, 0.0, rules
        ways = ("", Way.ROUND_ROBIN)
        self.pool = Pool("who", [one.instance for one in instances], ways=lambda route: ways)
        self.channel = BalancedChannel(self.pool)
        self.ejection = Ejection(self.pool, lambda: self.rules, lambda: self.now)

    async def called(self, count: int = 90) -> Counter[str]:
        """Who answered so many calls, and how many ended with an error."""
        return await answers(self.channel, count)

    def passes(self, seconds: float) -> set[str]:
        """Who is left out after so many seconds."""
        self.now += seconds
        self.ejection.look()
        return {member.instance.id for member in self.pool.ejected}


async def answers(channel: BalancedChannel, count: int) -> Counter[str]:
    found = Counter[str]()
    for _ in range(count):
        try:
            found[await who(channel)] += 1
        except Failure as failure:
            found[failure.code.text] += 1
    return found


async def connected(pool: Pool, count: int = 3) -> None:
    await until(lambda: sum(member.connected for member in pool.members) == count)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with speakers(3) as instances:
        found = Service(instances)
        await who(found.channel)
        await connected(found.pool)
        found.passes(10)
        yield found
        await found.pool.close()


async def test_one_that_fails_three_of_ten_is_left_out_and_comes_back(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.instances[1].fails = 3
    assert set(await service.called()) == {"a", "b", "c", "internal"}
    assert service.passes(10) == {"b"}
    assert set(await service.called()) == {"a", "c"}
    assert re.search(r"who at .* is left out for 30 s: 3\d% of \d+ calls failed, of others 0%", caplog.text)

    service.instances[1].fails = 0
    assert service.passes(30) == set()
    assert set(await service.called()) == {"a", "b", "c"}
    assert "is called again" in caplog.text


async def test_one_that_refuses_what_others_do_is_left_out_though_its_breaker_is_closed(service: Service) -> None:
    service.instances[2].refuses = True
    assert set(await service.called()) == {"a", "b", "unavailable"}
    assert {member.breaker.state for member in service.pool.members} == {State.CLOSED}

    assert service.passes(10) == {"c"}
    assert set(await service.called()) == {"a", "b"}


async def test_when_all_refuse_nobody_is_left_out(service: Service) -> None:
    for one in service.instances:
        one.refuses = True
    await service.called()

    assert service.passes(10) == set()


async def restart(service: Service, number: int) -> None:
    """Another process comes in an instance's place."""
    await service.instances[number].stop()
    await connected(service.pool, 2)
    service.instances[number].fails = 0
    await service.instances[number].start()
    await connected(service.pool)


async def test_one_that_was_started_again_is_called_at_once(service: Service) -> None:
    service.instances[1].fails = 3
    await service.called()
    assert service.passes(10) == {"b"}
    await restart(service, 1)

    assert service.passes(0.5) == set()
    assert set(await service.called()) == {"a", "b", "c"}


async def test_what_a_process_failed_is_not_held_against_its_successor(service: Service) -> None:
    service.instances[1].fails = 3
    await service.called()
    await restart(service, 1)
    await service.called()

    assert service.passes(10) == set()


async def test_a_slow_one_is_left_out_where_the_table_says_so(service: Service) -> None:
    service.instances[0].pause = 0.3
    await asyncio.gather(*(service.called(13) for _ in range(5)))
    assert service.passes(10) == set()

    service.rules = RULES.model_copy(update={"slower": 2.0})
    service.passes(10)
    await asyncio.gather(*(service.called(13) for _ in range(5)))
    assert service.passes(10) == {"a"}


async def test_how_long_a_stream_takes_says_nothing_of_its_instance(service: Service) -> None:
    service.rules = RULES.model_copy(update={"slower": 2.0})
    service.passes(10)
    with contextlib.suppress(Failure):
        async for _ in service.channel.unary_stream("/aimass.test.Who/Nothing")(b""):
            pass

    assert sum(member.record.calls for member in service.pool.members) == 1
    assert sum(member.record.middle for member in service.pool.members) == 0
    await who(service.channel)
    assert sum(member.record.middle for member in service.pool.members) > 0


@pytest.mark.parametrize(
    "text",
    ["[ejection.registrar]", "[ejection.registry]\nshare = 0.6", "[ejection.registry]\nslower = 1.0"],
)
def test_rules_that_cannot_be_stop_the_start(text: str, tmp_path: Path) -> None:
    file = tmp_path / "calls.toml"
    file.write_text(text)

    with pytest.raises(ConfigError, match="AIMASS_CALLS_FILE"):
        CallTable(file)


def test_the_closest_entry_counts_and_without_one_what_is_built_in(tmp_path: Path) -> None:
    file = tmp_path / "calls.toml"
    file.write_text('[ejection."*"]\nshare = 0\n[ejection.registry]\nslower = 3\n')
    table = CallTable(file)

    assert (table.ejection("logs").share, table.ejection("registry").slower) == (0, 3)
    assert CallTable().ejection("registry") == EjectionRules()


async def test_a_process_leaves_out_who_stands_out_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "calls.toml"
    turns = '[balancing]\nregistry = "round_robin"\n[ejection.registry]\n'
    file.write_text(f"{turns}interval = 1.0\ncalls = 10\nfactor = 2\n")
    async with speakers(3) as found:
        found[0].fails = 3
        url = "static:registry=" + "|".join(one.instance.address for one in found)
        more = {"AIMASS_DISCOVERY_URL": url, "AIMASS_CALLS_FILE": str(file)}
        async with house(tmp_path / "home", "data", **more) as caller:
            channel, pool = caller.runtime.channel("registry"), caller.runtime.directory.pool("registry")
            assert pool
            await connected_by(channel, pool)

            async def out() -> bool:
                await answers(channel, 60)
                return figure() == 1

            await until(out)
            assert set(await answers(channel, 30)) == {"b", "c"}
            file.write_text(f"{turns}share = 0\n")
            await until(lambda: figure() == 0)
            assert set(await answers(channel, 30)) == {"a", "b", "c", "internal"}
    assert "is left out for 30 s" in caplog.text


async def connected_by(channel: BalancedChannel, pool: Pool) -> None:
    await answers(channel, 1)
    await connected(pool)


def figure() -> float | None:
    return REGISTRY.get_sample_value("aimass_instances", {"service": "registry", "state": "ejected"})


async def test_when_nobody_looks_any_more_nobody_is_left_out(service: Service) -> None:
    service.instances[1].fails = 3
    rules = RULES.model_copy(update={"interval": 1.0, "calls": 10, "factor": 2.0})
    running = asyncio.ensure_future(watch(lambda: [service.pool], lambda name: rules))

    async def out() -> bool:
        await service.called(60)
        return bool(service.pool.ejected)

    await until(out)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not service.pool.ejected
