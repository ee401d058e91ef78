"""What the sources of addresses promise, and channels by them."""

import asyncio
from collections.abc import AsyncIterator, Collection

import pytest

from services.kit.config import ConfigError
from services.kit.discovery import Directory, Listed, place
from services.kit.discovery_dns import Names, resolve
from services.kit.member import Instance
from tests.support.house import until
from tests.support.speakers import Speaker, several, speakers


def test_a_service_is_known_when_it_is_here_or_somebody_says_where() -> None:
    directory = Directory(("gateway",), Listed("registry=127.0.0.1:1"))

    assert [directory.knows(name) for name in ("gateway", "registry", "logs")] == [True, True, False]


def test_a_channel_to_nowhere_is_not_made() -> None:
    with pytest.raises(ConfigError, match="must name logs"):
        Directory(("gateway",), Listed()).channel("logs")


@pytest.mark.parametrize("text", ["registry", "=127.0.0.1:1", "registry="])
def test_a_list_that_names_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be static:service=host:port"):
        Listed(text)


@pytest.mark.parametrize("text", ["registry=registry", "registry=:9101", "registry=registry:x"])
def test_names_without_a_port_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be dns:service=host:port"):
        Names(text)


@pytest.mark.parametrize(
    ("listen", "advertised", "found"),
    [
        ("127.0.0.1:9101", "me", "127.0.0.1:9101"),
        ("0.0.0.0:9101", "me", "me:9101"),
        ("[::]:9101", "me", "me:9101"),
        (":9101", "me", "me:9101"),
        ("", "me", ""),
    ],
)
def test_an_instance_is_called_what_others_can_reach(listen: str, advertised: str, found: str) -> None:
    assert place(listen, advertised) == found


def test_a_machine_is_called_by_its_name_when_nothing_else_is_said() -> None:
    host, _, port = place("0.0.0.0:9101", "").partition(":")

    assert (bool(host), host != "0.0.0.0", port) == (True, True, "9101")


class Zone:
    """A DNS that a test writes."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: list[str] | None = list(addresses)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        if self.addresses is None:
            raise OSError(f"{host} is not known")
        return self.addresses


@pytest.fixture
async def named() -> AsyncIterator[tuple[Zone, Directory]]:
    zone = Zone("10.0.0.1", "10.0.0.2")
    directory = Directory((), Names("registry=registry:9101", zone, 0.02))
    await directory.start()
    yield zone, directory
    await directory.close()


def addresses(directory: Directory) -> set[str]:
    return {instance.address for instance in directory.instances("registry")}


async def test_every_address_of_a_name_is_an_instance(named: tuple[Zone, Directory]) -> None:
    assert addresses(named[1]) == {"10.0.0.1:9101", "10.0.0.2:9101"}


async def test_a_name_is_asked_for_again(named: tuple[Zone, Directory]) -> None:
    zone, directory = named
    zone.addresses = ["10.0.0.2", "fd00::3"]

    await until(lambda: addresses(directory) == {"10.0.0.2:9101", "[fd00::3]:9101"})


@pytest.mark.parametrize("answer", [None, []])
async def test_a_name_without_an_answer_keeps_what_it_had(
    named: tuple[Zone, Directory], answer: list[str] | None
) -> None:
    zone, directory = named
    zone.addresses = answer
    asked = zone.asked
    await until(lambda: zone.asked > asked + 3)

    assert addresses(directory) == {"10.0.0.1:9101", "10.0.0.2:9101"}


async def test_the_real_resolver_knows_the_loopback() -> None:
    assert "127.0.0.1" in await resolve("localhost", 1)


async def test_a_list_with_several_addresses_is_balanced() -> None:
    async with speakers(2) as found:
        directory = Directory((), Listed(f"who={'|'.join(one.instance.address for one in found)}"))
        await directory.start()
        await until(lambda: called(directory, found))
        await directory.close()


async def called(directory: Directory, found: Collection[Speaker]) -> bool:
    return set(await several(directory.channel("who"), 5)) == {one.name for one in found}


async def test_only_what_listens_can_be_called() -> None:
    directory = Directory((), Listed())
    directory._update({"gateway": [Instance("g", ""), Instance("h", "10.0.0.1:1")]})

    assert list(directory.instances("gateway")) == [Instance("h", "10.0.0.1:1")]
    assert directory.living("gateway") is None
    await asyncio.sleep(0)


async def test_a_table_that_is_told_again_is_no_news() -> None:
    async with speakers(1) as [one]:
        directory = Directory((), Names("who=localhost:1", Zone()))
        directory._update({"who": [one.instance]})
        pool = directory.pool("who")
        assert pool
        changed = pool._changed
        directory._update({"who": [one.instance]})

        assert pool._changed is changed
        await directory.close()
