"""What every test may use."""

import gc
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import servers

# A busy machine makes nothing false: no test is asserted by time. The same code gets the same examples, so that a run
# says something of a change; make properties looks for others.
_ALWAYS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("house", _ALWAYS, derandomize=True)
settings.register_profile("random", _ALWAYS, derandomize=False, print_blob=True)
settings.load_profile("house")

LONG = ("far", "journeys", "fuzz", "trainer", "gateway", "data")  # folders of modules that take half a minute


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Thousands of tests and their modules are made, and none of them is garbage: that is looked for when they run."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Three for two processors: a third of the time of a test it waits for something."""
    return (os.cpu_count() or 1) * 3 // 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules that take long come first: processes that share the run end at the same time."""
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.parent.name, len(order)))


@pytest.fixture
def free_port() -> int:
    """A port of the loopback that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(params=[pytest.param("near"), pytest.param("far", marks=pytest.mark.far)])
def db_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "near":
        return f"sqlite:///{tmp_path}/data.db"
    return servers.database(servers.address("postgres"))


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[servers.Program]:
    """A Redis of the test's own, which it may kill, freeze and start again."""
    servers.address("redis")  # skips where no far tests are wanted
    try:
        program = servers.make("redis", tmp_path / "redis").start()
    except servers.Missing as missing:
        pytest.skip(str(missing))
    yield program
    program.end()
