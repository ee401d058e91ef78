"""Instances that are asked how they are: who fails is called no more, who recovers is called again."""

import asyncio
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.kit import tasks
from services.kit.balancing import Way
from services.kit.calls import CallTable
from services.kit.channels import BalancedChannel
from services.kit.checks import Checks, watch
from services.kit.config import ConfigError
from services.kit.member import Instance
from services.kit.pool import Pool
from services.kit.tally import CheckRules, Tally
from tests.support.house import until
from tests.support.server import free_ports
from tests.support.speakers import Speaker, several, speakers, who

patiently = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FAST = CheckRules(interval=0.05, timeout=0.5, rise=2, fall=2)


@patiently
@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_a_state_changes_when_as_many_checks_in_a_row_agree(checks: list[bool], rise: int, fall: int) -> None:
    tally, well = Tally(), True
    for number in range(len(checks)):
        last = checks[: number + 1]
        if well and len(last) >= fall and not any(last[-fall:]):
            well = False
        elif not well and all(last[-rise:]) and len(last) >= rise:
            well = True
        assert tally.add(checks[number], rise, fall) is well


class Service:
    """Three instances that are connected and have turns."""

    def __init__(self, instances: list[Speaker]) -> None:
        self.instances = instances
        self.pool = Pool("who", [one.instance for one in instances], ways=lambda route: ("", Way.ROUND_ROBIN))
        self.channel = BalancedChannel(self.pool)

    async def called(self, count: int = 30) -> set[str]:
        return set(await several(self.channel, count))

    async def check(self, rules: CheckRules = FAST, rounds: int = 2) -> None:
        checks = Checks(self.pool, lambda: rules)
        for _ in range(rounds):
            await checks.round(rules)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with speakers(3) as instances:
        found = Service(instances)
        await who(found.channel)
        await until(lambda: sum(member.connected for member in found.pool.members) == 3)
        yield found
        await found.pool.close()


async def test_who_says_that_it_does_not_serve_is_called_no_more(service: Service) -> None:
    service.instances[0].well = False
    await service.check(rounds=1)
    assert await service.called() == {"a", "b", "c"}  # once is not enough

    await service.check()
    assert await service.called() == {"b", "c"}


async def test_who_recovers_is_called_again(service: Service) -> None:
    running = asyncio.ensure_future(Checks(service.pool, lambda: FAST).run())
    service.instances[0].well = False
    await until(lambda: service.pool.ill)
    service.instances[0].well = True

    await until(lambda: not service.pool.ill)
    assert await service.called() == {"a", "b", "c"}
    running.cancel()


async def test_when_all_fail_all_are_called(service: Service) -> None:
    for one in service.instances:
        one.well = False
    await service.check()

    assert len(service.pool.ill) == 3
    assert await service.called() == {"a", "b", "c"}


@pytest.mark.parametrize(("panic", "called"), [(0.5, {"a", "b", "c"}), (0.3, {"c"})])
async def test_where_fewer_pass_than_is_said_all_are_called(service: Service, panic: float, called: set[str]) -> None:
    for one in service.instances[:2]:
        one.well = False
    await service.check(FAST.model_copy(update={"panic": panic}))

    assert await service.called() == called


async def test_checks_that_end_keep_nobody_out(service: Service) -> None:
    service.instances[0].well = False
    rules: list[CheckRules | None] = [FAST]
    running = asyncio.ensure_future(Checks(service.pool, lambda: rules[0]).run())
    await until(lambda: service.pool.ill)
    rules[0] = None

    await until(lambda: not service.pool.ill)
    assert await service.called() == {"a", "b", "c"}
    running.cancel()


async def test_checks_go_on_behind_what_nobody_has_foreseen(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "_FIRST", 0.01)
    asked = 0

    def rules(name: str) -> CheckRules:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise KeyError("a bug")
        return FAST

    running = asyncio.ensure_future(watch(lambda: [service.pool], rules))
    service.instances[0].well = False

    await until(lambda: service.pool.ill)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "a bug" in caplog.text


async def test_an_instance_that_leaves_while_it_is_asked_is_forgotten(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.instances[0].well = False
    await service.check()
    service.pool.update([one.instance for one in service.instances[1:]])
    await service.check(rounds=1)

    assert service.pool.ill == frozenset()
    assert "fails its checks" in caplog.text
    assert "passes" not in caplog.text


class Page:
    """An HTTP server that answers each request with a status."""

    def __init__(self, status: str = "200 OK") -> None:
        self.status, self.asked = status, Counter[str]()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked[head.decode().partition("\r\n")[0]] += 1
        writer.write(f"HTTP/1.1 {self.status}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("status", ["503 Service Unavailable", "404 Not Found", "301 Moved", "nonsense"])
async def test_a_path_has_to_answer_well(service: Service, status: str) -> None:
    page, [port] = Page(), free_ports(1)
    server = await asyncio.start_server(page, "127.0.0.1", port)
    rules = CheckRules(path="/health/ready", port=port, interval=0.05, fall=2, rise=1)
    await service.check(rules)
    assert (service.pool.ill, page.asked) == (frozenset(), {"GET /health/ready HTTP/1.1": 6})

    page.status = status
    await service.check(rules)
    assert len(service.pool.ill) == 3
    server.close()
    await server.wait_closed()


async def test_a_port_that_nobody_listens_at_is_a_failure(service: Service) -> None:
    await service.check(CheckRules(port=free_ports(1)[0], fall=2))

    assert len(service.pool.ill) == 3


async def test_a_process_that_is_frozen_is_found_by_its_checks(
    service: Service, process: tuple[Instance, subprocess.Popen[bytes]]
) -> None:
    instance, program = process
    service.pool.update([instance, *(one.instance for one in service.instances)])
    await until(lambda: sum(member.connected for member in service.pool.members) == 4, 20)
    program.send_signal(signal.SIGSTOP)
    [frozen] = [member for member in service.pool.members if member.instance == instance]
    await service.check()

    # Found by the checks, or by the connection where the machine is so slow that its pings were faster.
    assert not frozen.connected or service.pool.ill == {frozen}
    assert await service.called() == {"a", "b", "c"}
    program.send_signal(signal.SIGCONT)

    async def again() -> bool:
        await service.check()
        return "frozen" in await service.called(8)

    await until(again, 20)


async def test_the_table_of_calls_says_who_is_checked_and_how(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "calls.toml"
    file.write_text("[checks.registry]\ninterval = 0.05\nfall = 1\nrise = 1\n")
    table = CallTable(file)
    rules = table.check("registry")
    assert rules
    assert (rules.interval, rules.fall, table.check("logs"), CallTable().check("registry")) == (0.05, 1, None, None)

    service.pool.service = "registry"
    running = asyncio.ensure_future(watch(lambda: [service.pool], table.check))
    service.instances[2].well = False
    await until(lambda: len(service.pool.ill) == 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert service.pool.ill == frozenset()


@pytest.mark.parametrize(
    "text", ["[checks.registrar]", "[checks.registry]\nrise = 0", '[checks.registry]\npath = "health"']
)
def test_checks_that_cannot_be_stop_the_start(text: str, tmp_path: Path) -> None:
    file = tmp_path / "calls.toml"
    file.write_text(text)

    with pytest.raises(ConfigError, match="AIMASS_CALLS_FILE"):
        CallTable(file)
