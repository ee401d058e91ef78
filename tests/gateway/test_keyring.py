import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.gateway.access.domain import ApiKey, Tenant, digest
from services.gateway.access.installation import first_secret, pepper, write_secret
from services.gateway.access.keyring import Keyring
from services.gateway.roles.book import Rolebook
from services.gateway.roles.domain import Role
from services.kit.config import ConfigError
from services.kit.errors import Code, Failure

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PEPPER = bytes(32)
SECRET = "aim_abcdefgh_" + "x" * 43
KEY = ApiKey("abcdefgh", "acme", "", ("models.*",), NOW)
TENANT = Tenant("acme", "", NOW)


def ring(key: ApiKey = KEY, tenant: Tenant = TENANT) -> Keyring:
    found = Keyring(PEPPER, lambda: NOW)
    found.replace([tenant], [(key, digest(PEPPER, SECRET))])
    return found


def code(held: Keyring, secret: str = SECRET, project: str = "default") -> Code:
    with pytest.raises(Failure) as caught:
        held.identify(secret, project)
    return caught.value.code


def test_a_secret_tells_whose_it_is() -> None:
    _, principal = ring().identify(SECRET, "flights")

    assert principal.scope == ("acme", "flights")
    assert (principal.id, principal.permissions) == ("key:abcdefgh", ("models.*",))


def test_the_same_caller_is_the_same_object() -> None:
    held = ring()

    assert held.identify(SECRET, "default")[1] is held.identify(SECRET, "default")[1]


def test_a_wrong_secret_an_unknown_key_and_a_closed_tenant_are_the_same() -> None:
    closed = replace(TENANT, delete_time=NOW, generation=2)

    assert code(ring(), SECRET[:-1] + "y") is Code.UNAUTHENTICATED
    assert code(ring(), "aim_zzzzzzzz_" + "x" * 43) is Code.UNAUTHENTICATED
    assert code(ring(tenant=closed)) is Code.UNAUTHENTICATED
    assert code(ring(replace(KEY, revoke_time=NOW))) is Code.UNAUTHENTICATED
    assert code(ring(replace(KEY, expire_time=NOW))) is Code.UNAUTHENTICATED


def test_many_projects_of_one_key_do_not_fill_the_memory() -> None:
    held = ring()
    for number in range(500):
        held.identify(SECRET, f"p{number}")

    assert len(held._held["abcdefgh"].principals) <= 64


def test_what_was_read_before_a_change_does_not_undo_it() -> None:
    held = ring()
    held.put(replace(KEY, revoke_time=NOW, generation=2))
    held.tenant(replace(TENANT, delete_time=NOW, generation=2))
    held.replace([TENANT], [(KEY, digest(PEPPER, SECRET))])

    assert held.key("key:abcdefgh") == replace(KEY, revoke_time=NOW, generation=2)
    assert code(held) is Code.UNAUTHENTICATED


def test_a_pepper_is_made_once(tmp_path: Path) -> None:
    made = pepper(tmp_path, b"a" * 32, needed=False)

    assert pepper(tmp_path, b"b" * 32, needed=True) == made
    (tmp_path / "pepper").write_bytes(b"short")
    with pytest.raises(ConfigError, match="damaged"):
        pepper(tmp_path, b"b" * 32, needed=True)


def test_the_file_of_the_first_key_is_taken_up_or_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "admin-key"
    other = "aim_ijklmnop_" + "y" * 43

    assert first_secret(path, SECRET) == SECRET
    assert first_secret(path, other) == SECRET
    path.write_text("half a ke")
    assert first_secret(path, other) == other


def test_a_secret_is_its_owners_only_from_the_first_byte(tmp_path: Path) -> None:
    write_secret(tmp_path / "new" / "secret", b"x")

    assert stat.S_IMODE((tmp_path / "new" / "secret").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["secret"]


def test_a_key_that_came_while_all_were_read_is_kept() -> None:
    held = ring()
    turn = held.turn
    other = "aim_ijklmnop_" + "y" * 43
    held.put(replace(KEY, api_key="ijklmnop"), digest(PEPPER, other))
    held.replace([TENANT], [(KEY, digest(PEPPER, SECRET))], turn)
    assert held.identify(other, "default")

    held.replace([TENANT], [(KEY, digest(PEPPER, SECRET))], held.turn)
    assert code(held, other) is Code.UNAUTHENTICATED


def role(*permissions: str, generation: int = 1) -> Role:
    return Role("reader", "acme", "", permissions, NOW, NOW, generation=generation)


def test_a_key_that_may_something_else_is_another_key_and_all_others_stay() -> None:
    book = Rolebook()
    book.take([role("models.get")], [])
    held = Keyring(PEPPER, lambda: NOW, book)
    plain, with_role = replace(KEY, api_key="ijklmnop"), replace(KEY, permissions=(), roles=("reader",))
    held.replace([TENANT], [(with_role, digest(PEPPER, SECRET)), (plain, bytes(32))])
    before, principal = held.identify(SECRET, "default")
    book.take([role("jobs.get", generation=2)], [])
    held.settle("acme")

    assert principal.permissions == ("models.get",)
    assert not held.holds(before)
    assert held.holds(plain)
    assert held.identify(SECRET, "default")[1].permissions == ("jobs.get",)


def test_a_role_that_was_read_before_it_changed_does_not_come_back() -> None:
    book = Rolebook()
    book.take([replace(role("models.get", generation=2), delete_time=NOW)], [])
    book.take([role("models.get")], [])

    assert book.role("acme", "reader") is None
    assert book.grants("acme", "key:abcdefgh", ("reader",)) == ()
