"""The table of internal calls: what the contract says, what a file says otherwise, and when that counts."""

import asyncio
import logging
from pathlib import Path

import pytest

from services.kit import contract
from services.kit.auth import Principal, Scope, service_principal
from services.kit.calls import CallTable
from services.kit.config import ConfigError
from services.kit.errors import Forbidden
from tests.support.house import until

SCOPE = Scope("acme")
KEY = Principal(SCOPE, "key:abc", ("*",))


def may(table: CallTable, caller: str, method: str) -> bool:
    """Whether a service may call a method; a key comes through the gateway."""
    principal = KEY if caller == "key" else service_principal(caller, SCOPE, ("*",))
    try:
        table.admit(contract.all_methods()[f"/aimass.v1.{method}"], principal, None)
    except Forbidden:
        return False
    return True


def seconds(table: CallTable, method: str) -> float:
    return table.deadline(contract.all_methods()[f"/aimass.v1.{method}"])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "calls.toml"


def table(file: Path, text: str) -> CallTable:
    file.write_text(text)
    return CallTable(file)


@pytest.mark.parametrize(
    ("caller", "method", "permitted"),
    [
        ("key", "Models/GetModel", True),
        ("gateway", "Models/GetModel", True),
        ("trainer", "Models/GetModel", False),
        ("trainer", "FeatureSets/GetFeatureSetVersion", True),
        ("key", "FeatureSets/GetFeatureSetVersion", True),
        ("trainer", "DataSets/LocateDataSetVersion", True),
        ("key", "DataSets/LocateDataSetVersion", False),
        ("inference", "Releases/SnapshotReleases", True),
        ("data", "Releases/SnapshotReleases", False),
        ("logs", "Bus/Publish", True),
    ],
)
def test_the_contract_says_who_calls_what(caller: str, method: str, permitted: bool) -> None:
    assert may(CallTable(), caller, method) is permitted


def test_the_contract_says_how_long_a_call_may_take() -> None:
    assert seconds(CallTable(), "Workers/LeaseJob") == 40
    assert seconds(CallTable(), "Models/GetModel") == 10


def test_the_closer_pattern_wins(file: Path) -> None:
    found = table(
        file,
        """
        [calls."*"]
        deadline = 1.0
        [calls."aimass.v1.Models/*"]
        deadline = 2.0
        callers = ["logs"]
        [calls."aimass.v1.Models/GetModel"]
        deadline = 3.0
        """,
    )

    assert [seconds(found, name) for name in ("Bus/Publish", "Models/ListModels", "Models/GetModel")] == [1, 2, 3]
    assert may(found, "logs", "Models/GetModel")
    assert not may(found, "gateway", "Models/GetModel")


def test_a_star_lets_every_service_call(file: Path) -> None:
    assert may(table(file, '[calls."aimass.v1.Models/GetModel"]\ncallers = ["*"]'), "data", "Models/GetModel")


def test_breakers_have_rules_by_service_and_for_all(file: Path) -> None:
    found = table(file, '[breakers.inference]\nin_a_row = 3\n[breakers."*"]\nwindow = 5.0')

    assert found.breaker("inference") == {"in_a_row": 3}
    assert found.breaker("registry") == {"window": 5.0}
    assert CallTable().breaker("registry") == {}


@pytest.mark.parametrize("principal", ["someone", "", "user", "users:me"])
def test_a_token_is_for_a_service_a_key_or_a_user(principal: str) -> None:
    with pytest.raises(Forbidden, match="must be for a service, a key or a user"):
        CallTable().admit(
            contract.all_methods()["/aimass.v1.Models/GetModel"], Principal(SCOPE, principal, ("*",)), None
        )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[calls", "is no TOML"),
        ('[calls."aimass.v1.Models/GetModl"]\ndeadline = 1.0', "there is no aimass.v1.Models/GetModl"),
        ('[calls."*"]\ncallers = ["trainr"]', "there is no trainr"),
        ("[breakers.registrar]\ncalls = 3", "there is no registrar"),
        ('[calls."*"]\ndeadline = 0', "calls.*deadline: input should be greater than 0"),
        ('[calls."*"]\nlimit = 3', "limit: extra inputs are not permitted"),
        ("[limits]", "limits: extra inputs are not permitted"),
        ("[breakers.logs]\nshare = 1.5", "share"),
    ],
)
def test_a_file_that_is_no_table_stops_the_start(text: str, says: str, file: Path) -> None:
    with pytest.raises(ConfigError, match=f"AIMASS_CALLS_FILE: .*{says}"):
        table(file, text)


def test_a_file_that_is_not_there_stops_the_start(file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        CallTable(file)


async def test_a_change_counts_within_a_second_and_a_bad_one_not_at_all(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = table(file, '[calls."*"]\ndeadline = 1.0')
    watching = asyncio.ensure_future(found.watch())
    file.write_text('[calls."*"]\ndeadline = 20.0')
    await until(lambda: seconds(found, "Models/GetModel") == 20, 1)

    with caplog.at_level(logging.ERROR):
        file.write_text('[calls."*"]\ndeadline = "soon"')
        await until(lambda: "the calls file stays as it was" in caplog.text, 2)
    assert seconds(found, "Models/GetModel") == 20

    file.unlink()
    await until(lambda: "cannot be read" in caplog.text, 2)
    file.write_text('[calls."*"]\ndeadline = 30.0')
    await until(lambda: seconds(found, "Models/GetModel") == 30, 2)
    watching.cancel()


def test_the_table_of_the_deployment_says_what_the_contract_says() -> None:
    found, plain = CallTable(Path(__file__).parents[2] / "deploy/settings/calls.toml"), CallTable()
    for path in contract.all_methods():
        name = path.removeprefix("/aimass.v1.")
        for caller in ("gateway", "data", "trainer", "registry", "inference", "logs"):
            assert may(found, caller, name) == may(plain, caller, name), f"{caller} -> {name}"
        assert seconds(found, name) == seconds(plain, name)
