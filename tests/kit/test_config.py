import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.kit.config import ConfigError, Installation, Settings, load, refuse_unknown


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
        refuse_unknown([Installation, Config], {"AIMASS_TEST_PROT": "1", "PATH": "/bin"})


def test_a_shell_that_has_the_clients_variables_may_start_services() -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    _, _, section = page.partition("## The client")
    said = set(re.findall(r"`(AIMASS_\w+)`", section.partition("\n## ")[0]))

    assert {"AIMASS_URL", "AIMASS_KEY", "AIMASS_SIGNING"} <= said
    refuse_unknown([Installation], dict.fromkeys(said, "x"))


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(Config, {}).port = 1


def test_a_secret_has_one_place(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("x")
    env = {"AIMASS_TEST_PASSWORD": "y", "AIMASS_TEST_PASSWORD_FILE": str(tmp_path / "password")}

    with pytest.raises(ConfigError, match="AIMASS_TEST_PASSWORD and AIMASS_TEST_PASSWORD_FILE: only one of them"):
        load(Config, env)


@pytest.mark.parametrize(("content", "said"), [(b"\xff\xfe", "is no text"), (None, "cannot be read: Is a directory")])
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


def test_every_wrong_value_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load(Installation, {"AIMASS_DRAIN_SECONDS": "soon", "AIMASS_LOG_LEVEL": "INFO", "AIMASS_HOME": "\0" * 0})
    assert "AIMASS_DRAIN_SECONDS" in str(caught.value)
    assert "AIMASS_LOG_LEVEL" not in str(caught.value)


def test_what_has_no_file_form_has_none() -> None:
    with pytest.raises(ConfigError, match="unknown settings: AIMASS_TEST_PORT_FILE"):
        refuse_unknown([Config], {"AIMASS_TEST_PORT_FILE": "x", "AIMASS_TEST_PASSWORD_FILE": "y", "PATH": "/bin"})
