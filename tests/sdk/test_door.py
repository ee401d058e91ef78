import stat
from pathlib import Path

import pytest

from aimass import Client, Failure, door


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    return {"HOME": str(tmp_path / "me")}


def installation(folder: Path, http: str = "8080") -> None:
    folder.mkdir()
    (folder / "doors.json").write_text(f'{{"http": {http}, "grpc": 9090}}')
    (folder / "admin-key").write_text("aim_admin\n")


def test_arguments_come_first(env: dict[str, str]) -> None:
    env |= {"AIMASS_URL": "http://other", "AIMASS_KEY": "other"}
    assert door.find("http://here/", "mine", env) == door.Door("http://here", "mine")


def test_then_the_environment_then_the_login_then_the_installation_here(env: dict[str, str], tmp_path: Path) -> None:
    installation(tmp_path / ".aimass")
    assert door.find(env=env) == door.Door("http://127.0.0.1:8080", "aim_admin", ".aimass")
    door.save(door.Door("https://far", "kept"), env)
    assert (door.find(env=env).url, door.find(env=env).key) == ("https://far", "kept")
    env |= {"AIMASS_URL": "http://said", "AIMASS_KEY": "k"}
    assert door.find(env=env) == door.Door("http://said", "k", "environment")


def test_a_key_never_goes_to_another_address(env: dict[str, str]) -> None:
    door.save(door.Door("https://far", "kept"), env)
    with pytest.raises(Failure, match="no key is known for this address"):
        door.find("https://elsewhere", env=env)
    assert door.find("https://far", env=env).key == "kept"


def test_a_login_is_for_its_owner_only_also_over_an_old_one(env: dict[str, str]) -> None:
    path = door.save(door.Door("https://far", 'with "quotes"'), env)
    path.chmod(0o644)
    assert door.save(door.Door("https://far", "new"), env) == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert door.find(env=env).key == "new"


def test_nothing_known_says_what_to_do(env: dict[str, str]) -> None:
    with pytest.raises(Failure, match="aimass up"):
        door.find(env=env)


def test_a_broken_login_is_named(env: dict[str, str]) -> None:
    path = door.save(door.Door("https://far", "k"), env)
    path.write_text("url = ")
    with pytest.raises(Failure, match=r"config\.toml cannot be read"):
        door.find(env=env)


@pytest.mark.parametrize(
    ("url", "key", "said"),
    [("ftp://x", "k", "not an address"), ("http://x", "a b", "key must be"), ("http://x", "ä", "key must be")],
)
def test_what_cannot_be_is_refused(url: str, key: str, said: str, env: dict[str, str]) -> None:
    with pytest.raises(Failure, match=said):
        door.find(url, key, env)


@pytest.mark.parametrize("text", [8080, "127.0.0.1:8080", "http://127.0.0.1:8080", "http://127.0.0.1:8080/"])
def test_a_door_may_be_a_port_an_address_or_a_url(text: object) -> None:
    assert door.address(text) == "http://127.0.0.1:8080"


def test_the_authority_to_trust_is_said_or_kept_by_the_login(env: dict[str, str], tmp_path: Path) -> None:
    assert door.find("https://far", "k", env, ca="mine.pem").ca == "mine.pem"
    door.save(door.Door("https://far", "k", ca="login.pem"), env)
    assert door.find(env=env).ca == str(tmp_path / "login.pem")
    env["AIMASS_CA"] = "environment.pem"
    assert door.find(env=env).ca == "environment.pem"
    assert door.find("https://far", "k", env).ca == "environment.pem"


def test_an_authority_that_is_none_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(Failure, match=f"{name} is not a PEM file of certificates"):
            Client("https://far", "k", ca=str(tmp_path / name))


GRANT = door.Grant("corp", "https://login.example", 'a "client" \x7f ä 😀\n', "whose", "n", "r", 1790000000.5)


def test_a_login_comes_back_as_it_was_kept(env: dict[str, str]) -> None:
    path = door.save(door.Door("https://far", "token", ca="", grant=GRANT), env)
    assert door.kept(env) == door.Door("https://far", "token", str(path), "", GRANT)
    assert door.find(env=env).grant == GRANT
    assert "r'" not in repr(door.find(env=env).grant)


def test_a_key_that_is_passed_is_not_that_of_the_login(env: dict[str, str]) -> None:
    door.save(door.Door("https://far", "token", grant=GRANT), env)
    assert door.find("https://far", "other", env).grant is None
    assert door.find("https://far", env=env).grant == GRANT


def test_what_a_newer_client_keeps_is_passed_over(env: dict[str, str]) -> None:
    path = door.save(door.Door("https://far", "token", grant=GRANT), env)
    path.write_text(path.read_text(encoding="utf-8") + 'colour = "red"\n', encoding="utf-8")
    assert door.find(env=env).grant == GRANT


@pytest.mark.parametrize("text", ["login = 7", "[login]\nissuer = 7", "[login]\ndue = 'soon'", "[login]\nissuer = ''"])
def test_a_login_that_is_none_is_named(env: dict[str, str], text: str) -> None:
    path = door.save(door.Door("https://far", "k"), env)
    path.write_text(path.read_text() + text)
    with pytest.raises(Failure, match=r"config\.toml cannot be read"):
        door.find(env=env)


def test_what_was_left_behind_by_who_was_killed_is_forgotten_too(env: dict[str, str]) -> None:
    path = door.save(door.Door("https://far", "k"), env)
    path.with_suffix(".new").write_text("key = 'left'")
    door.forget(env)
    assert [path.exists(), path.with_suffix(".new").exists(), door.kept(env)] == [False, False, None]


@pytest.mark.parametrize(("life", "due"), [(600.0, 1540.0), (90.0, 1045.0), (1.0, 1000.5), (0.0, 0.0)])
def test_a_token_is_due_a_minute_before_its_end_or_at_half_its_life(life: float, due: float) -> None:
    assert GRANT.renewed("next", life, 1000.0).due == due
