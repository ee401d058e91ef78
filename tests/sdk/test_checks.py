import fcntl
import os
import socket
import ssl
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aimass import door as doors
from aimass.cli import checks
from aimass.cli.checks import Finding, Grade
from aimass.cli.main import build
from deploy.authority import Authority
from tests.sdk.conftest import Door


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    return {"HOME": str(tmp_path), "AIMASS_HOME": str(tmp_path / "home")}


def bad(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.grade is Grade.BAD]


def test_an_old_python_is_named() -> None:
    assert checks.python((3, 10, 2)).grade is Grade.BAD
    assert checks.python((3, 11, 0)).grade is Grade.GOOD


def test_a_busy_port_is_named_with_the_setting_that_moves_it(env: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        env["AIMASS_GATEWAY_GRPC_PORT"] = str(taken.getsockname()[1])
        (found,) = bad(checks.ports({**env, "AIMASS_GATEWAY_HTTP_PORT": "0"}))
    assert "busy" in found.found
    assert "AIMASS_GATEWAY_GRPC_PORT" in found.do


def test_a_full_disk_is_bad_and_a_small_one_is_worth_minding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_NOTHING", 2**60)
    assert checks.disk(tmp_path / "home").grade is Grade.BAD
    monkeypatch.setattr(checks, "_NOTHING", 0)
    monkeypatch.setattr(checks, "_LITTLE", 2**60)
    assert checks.disk(tmp_path, "100").grade is Grade.POOR


def test_a_disk_that_services_write_nothing_large_to_is_bad(tmp_path: Path) -> None:
    found = checks.disk(tmp_path, "0")

    assert found.grade is Grade.BAD
    assert "from 0 % on" in found.do
    assert "AIMASS_DISK_PERCENT" in found.do


def test_a_home_that_others_can_look_into_is_bad(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    assert not bad(checks.place(folder))
    folder.mkdir(mode=0o700)
    assert not bad(checks.place(folder))
    folder.chmod(0o755)
    assert bad(checks.place(folder))[0].do == f"chmod 700 {folder}"


def test_a_home_that_is_no_folder_or_cannot_be_written_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    assert "not a folder" in bad(checks.place(tmp_path / "file" / "home"))[0].found
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "cannot be written" in bad(checks.place(tmp_path / "home"))[0].found


def test_keys_that_others_can_read_are_bad(tmp_path: Path, env: dict[str, str]) -> None:
    doors.save(doors.Door("http://x", "k"), env).chmod(0o644)
    (tmp_path / "admin-key").write_text("aim_x")
    (tmp_path / "admin-key").chmod(0o600)
    (found,) = bad(checks.secrets(tmp_path, env))
    assert "config.toml" in found.found


def test_databases_that_somebody_holds_are_named(tmp_path: Path) -> None:
    assert checks.lock(tmp_path).grade is Grade.GOOD
    with open(tmp_path / "data.db.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert checks.lock(tmp_path).found.startswith("data.db is in use")


def test_a_gateway_that_answers_is_enough(door: Door, env: dict[str, str]) -> None:
    door.say({"principal": "key:a", "tenant": "acme"})
    found = list(checks.everything({**env, "AIMASS_URL": door.url, "AIMASS_KEY": "k"}))
    assert not bad(found)
    assert "key:a of tenant acme" in found[-1].found


def test_a_wrong_key_and_a_gateway_that_is_away_are_told_apart(door: Door, free_port: int) -> None:
    door.refuse(401, "unauthenticated", "the key is not known")
    assert "refuses: the key is not known" in checks.gateway(doors.Door(door.url, "k")).found
    away = checks.gateway(doors.Door(f"http://127.0.0.1:{free_port}", "k"))
    assert "cannot be reached" in away.found
    assert "aimass up" in away.do


def test_a_gateway_of_an_authority_that_is_not_known_is_told_from_one_that_is_away(tmp_path: Path) -> None:
    authority = Authority.new()
    issued = authority.issue_public(["127.0.0.1"])
    (tmp_path / "both.pem").write_bytes(issued.key + issued.cert)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "both.pem")
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"https://127.0.0.1:{server.server_port}"
        found = checks.gateway(doors.Door(url, "k"))
        server.shutdown()

    assert found.found.startswith(f"{url} has a certificate of an unknown authority")
    assert "AIMASS_CA" in found.do
    assert "aimass up" not in found.do


def test_doctor_says_names_as_they_are(tmp_path: Path, env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "[bold]" / "[" / "x]"
    folder.mkdir(parents=True, mode=0o755)
    result = CliRunner().invoke(build(), ["doctor"], env={**env, "AIMASS_HOME": str(folder), "AIMASS_URL": ""})

    assert result.exit_code == 1, result.exception
    assert f"chmod 700 {folder}" in result.stderr.replace("\n", "")


def test_doctor_exits_with_1_when_something_is_bad(tmp_path: Path, env: dict[str, str], free_port: int) -> None:
    folder = Path(env["AIMASS_HOME"])
    folder.mkdir(mode=0o755)
    free = {"AIMASS_GATEWAY_HTTP_PORT": "0", "AIMASS_GATEWAY_GRPC_PORT": "0"}
    shown = CliRunner().invoke(build(), ["doctor"], env={**env, **free, "AIMASS_URL": "", "XDG_CONFIG_HOME": ""})
    assert shown.exit_code == 1
    assert "chmod 700" in shown.stderr.replace("\n", "")
    folder.chmod(0o700)
    assert CliRunner().invoke(build(), ["doctor"], env={**env, **free, "AIMASS_URL": ""}).exit_code == 0
