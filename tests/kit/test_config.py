import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.kit.config import ConfigError, DatabaseUrl, Installation, Settings, load, load_all


class Config(Settings):
    prefix = "AIMASS_TEST_"

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


def test_a_setting_that_is_a_file_name_stays_one() -> None:
    assert load(Installation, {"AIMASS_CALLS_FILE": "/etc/calls.toml"}).calls_file == Path("/etc/calls.toml")


def test_a_missing_secret_file_is_named() -> None:
    with pytest.raises(ConfigError, match="AIMASS_TEST_PASSWORD_FILE: /none cannot be read"):
        load(Config, {"AIMASS_TEST_PASSWORD_FILE": "/none"})


def test_an_unknown_variable_stops_the_start() -> None:
    with pytest.raises(ConfigError, match="AIMASS_TEST_PROT"):
        load_all([Config], [], {"AIMASS_TEST_PROT": "1", "PATH": "/bin"})


def test_a_shell_that_has_the_clients_variables_may_start_services() -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    _, _, section = page.partition("## The client")
    documented = set(re.findall(r"`(AIMASS_\w+)`", section.partition("\n## ")[0]))

    assert {"AIMASS_URL", "AIMASS_KEY", "AIMASS_SIGNING"} <= documented
    load_all([], [], dict.fromkeys(documented, "x"))


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(Config, {}).port = 1


def test_a_secret_has_one_place(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("x")
    env = {"AIMASS_TEST_PASSWORD": "y", "AIMASS_TEST_PASSWORD_FILE": str(tmp_path / "password")}

    with pytest.raises(ConfigError, match="AIMASS_TEST_PASSWORD and AIMASS_TEST_PASSWORD_FILE: only one of them"):
        load(Config, env)


@pytest.mark.parametrize(
    ("content", "said"), [(b"\xff\xfe", "must be text in UTF-8"), (None, "cannot be read: Is a directory")]
)
def test_a_secret_file_that_holds_no_secret_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "password"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)

    with pytest.raises(ConfigError, match=f"AIMASS_TEST_PASSWORD_FILE: .*{said}"):
        load(Config, {"AIMASS_TEST_PASSWORD_FILE": str(file)})


@pytest.mark.parametrize("content", ["secret", "secret\n", " secret \n\n"])
def test_a_secret_in_a_file_ends_where_its_line_ends(tmp_path: Path, content: str) -> None:
    (tmp_path / "password").write_text(content)
    found = load(Config, {"AIMASS_TEST_PASSWORD_FILE": str(tmp_path / "password")})

    assert found.password.get_secret_value() == "secret"
    assert "secret" not in repr(found)


def test_every_variable_that_is_wrong_is_named_at_once() -> None:
    wrong = {"AIMASS_HOEM": "x", "AIMASS_DRAIN_SECONDS": "soon", "AIMASS_LOG_LEVEL": "loud", "AIMASS_TEST_PORT": "many"}
    wrong |= {"AIMASS_TEST_PASSWORD_FILE": "/none"}
    with pytest.raises(ConfigError) as caught:
        load_all([Config], [], {"AIMASS_WEIGHT": "2", **wrong})

    assert set(re.findall(r"AIMASS_\w+", str(caught.value))) == set(wrong)


def test_values_of_settings_that_others_read_are_theirs_to_check() -> None:
    load_all([], [Config], {"AIMASS_TEST_PORT": "many", "AIMASS_TEST_PASSWORD_FILE": "/none"})


def test_the_values_that_a_setting_can_have_are_said_as_they_are_written() -> None:
    with pytest.raises(ConfigError, match="AIMASS_LOG_LEVEL: input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"):
        load(Installation, {"AIMASS_LOG_LEVEL": "info"})


def test_an_address_of_a_secret_setting_is_not_repeated_when_it_is_none() -> None:
    class Keeper(Settings):
        prefix = "AIMASS_KEEPER_"

        database_url: DatabaseUrl = SecretStr("")

    with pytest.raises(ConfigError, match="AIMASS_KEEPER_DATABASE_URL: must be postgresql") as caught:
        load(Keeper, {"AIMASS_KEEPER_DATABASE_URL": "mysql://root:hunter2@db/data"})
    assert "hunter2" not in str(caught.value)


def test_what_has_no_file_form_has_none() -> None:
    with pytest.raises(ConfigError, match="unknown settings: AIMASS_TEST_PORT_FILE"):
        load_all([], [Config], {"AIMASS_TEST_PORT_FILE": "x", "AIMASS_TEST_PASSWORD_FILE": "y", "PATH": "/bin"})
