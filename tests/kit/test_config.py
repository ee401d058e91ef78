from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict

from services.kit.config import ConfigError, Installation, Settings, load, refuse_unknown


class Config(Settings):
    model_config = SettingsConfigDict(env_prefix="AIMASS_TEST_")

    port: int = 8080
    password: SecretStr = SecretStr("")


def test_defaults_hold_where_nothing_is_said() -> None:
    assert load(Config, {}).port == 8080


def test_a_variable_sets_its_field() -> None:
    assert load(Config, {"AIMASS_TEST_PORT": "9"}).port == 9


def test_a_wrong_value_names_its_variable() -> None:
    with pytest.raises(ConfigError, match="AIMASS_TEST_PORT: input should be a valid integer"):
        load(Config, {"AIMASS_TEST_PORT": "many"})


def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    config = load(Config, {"AIMASS_TEST_PASSWORD_FILE": str(tmp_path / "secret")})

    assert config.password.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(config)


def test_a_missing_secret_file_is_named() -> None:
    with pytest.raises(ConfigError, match="AIMASS_TEST_PASSWORD_FILE: /none cannot be read"):
        load(Config, {"AIMASS_TEST_PASSWORD_FILE": "/none"})


def test_an_unknown_variable_stops_the_start() -> None:
    with pytest.raises(ConfigError, match="AIMASS_TEST_PROT"):
        refuse_unknown([Installation, Config], {"AIMASS_TEST_PROT": "1", "PATH": "/bin"})


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(Config, {}).port = 1
