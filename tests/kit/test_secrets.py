import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.kit.config import ConfigError
from services.kit.secrets import Vault


def test_a_secret_comes_back(tmp_path: Path) -> None:
    sealed = Vault(tmp_path).seal(b"whsec", "acme/hooks")

    assert b"whsec" not in sealed
    assert Vault(tmp_path).open(sealed, "acme/hooks") == b"whsec"


def test_a_secret_does_not_open_in_another_place(tmp_path: Path) -> None:
    sealed = Vault(tmp_path).seal(b"whsec", "acme/hooks")

    with pytest.raises(ValueError, match="cannot be decrypted"):
        Vault(tmp_path).open(sealed, "rival/hooks")


@pytest.mark.parametrize("broken", [b"", b"\x02abc", b"\x01" + b"0" * 40])
def test_what_was_not_sealed_does_not_open(tmp_path: Path, broken: bytes) -> None:
    with pytest.raises(ValueError, match="secret"):
        Vault(tmp_path).open(broken, "")


def test_the_key_is_its_owners_only(tmp_path: Path) -> None:
    Vault(tmp_path / "keys").seal(b"x", "")

    assert stat.S_IMODE((tmp_path / "keys" / "secrets.key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["secrets.key"]


def test_processes_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        sealed = list(threads.map(lambda _: Vault(tmp_path).seal(b"x", ""), range(16)))

    assert {Vault(tmp_path).open(text, "") for text in sealed} == {b"x"}


def test_a_given_key_is_the_same_everywhere_and_not_written_down(tmp_path: Path) -> None:
    given = "A" * 43 + "="
    sealed = Vault(tmp_path / "one", given).seal(b"whsec", "acme/hooks")

    assert Vault(tmp_path / "other", given).open(sealed, "acme/hooks") == b"whsec"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", ["short", "A" * 44, "=" * 44, "A" * 100])
def test_a_given_key_that_is_none_is_refused(tmp_path: Path, given: str) -> None:
    with pytest.raises(ConfigError, match="AIMASS_SECRETS_KEY: must be 32 bytes as base64"):
        Vault(tmp_path, given)


def test_what_is_derived_is_one_for_each_purpose_and_key(tmp_path: Path) -> None:
    vault, given = Vault(tmp_path / "keys"), "A" * 43 + "="

    assert vault.derive("a") == Vault(tmp_path / "keys").derive("a")
    assert len({vault.derive("a"), vault.derive("b"), Vault(tmp_path, given).derive("a"), bytes(32)}) == 4
    assert len(vault.derive("a")) == 32
