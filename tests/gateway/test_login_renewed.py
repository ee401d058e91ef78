"""People who stay logged in: their token is renewed before it ends, once, whoever asks and however many do."""

import asyncio
import hashlib
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from aimass import AsyncClient, Client, Failure, renewal
from aimass.door import Door, Grant, alone, kept, save
from aimass.renewal import RenewingAuth, log_out
from tests.gateway.conftest import Gateway, gateway_at
from tests.gateway.issuing import write
from tests.gateway.providing import CLIENT
from tests.gateway.renewing import Renewing
from tests.gateway.test_issuers import good, settings
from tests.gateway.test_login import logs_in
from tests.support.house import until

pytestmark = pytest.mark.asyncio(loop_scope="module")
ANN = hashlib.sha256(b"ann").hexdigest()
ENDED: dict[str, Any] = {"iat": 1000, "exp": 1600}
FAR = 4e9


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, Renewing]]:
    home, provider = tmp_path_factory.mktemp("home"), Renewing()
    async with gateway_at(home, **settings(write(home / "issuers.toml", provider.entry()), provider)) as running:
        await until(partial(good, running, provider))
        yield running, provider
    provider.close()


@pytest.fixture
def corp(door: tuple[Gateway, Renewing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Renewing]:
    """The gateway's issuer as it was before each test; nobody is logged in."""
    for name in [name for name in os.environ if name.startswith(("AIMASS_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    door[1].reset()
    yield door[1]
    door[1].reset()


Login = Callable[..., Door]


@pytest.fixture
def login(door: tuple[Gateway, Renewing], corp: Renewing) -> Login:
    """Logs Ann in with a token that has ended, or with another one."""

    def begin(key: str = "", **more: Any) -> Door:
        fields = {"subject": ANN, "nonce": "n", "refresh": corp.began()} | more
        grant = Grant("corp", corp.url, CLIENT, **fields)
        save(Door(door[0].doors["http"], key or corp.token(**ENDED), grant=grant))
        return now()

    return begin


def now() -> Door:
    found = kept()
    assert found
    return found


def refresh() -> str:
    grant = now().grant
    assert grant
    return grant.refresh


def asks() -> str:
    with Client() as client:
        return client.access.who_am_i().principal


async def called() -> str:
    """Who the gateway says is asking."""
    return await asyncio.to_thread(asks)


async def refuses() -> Failure:
    with pytest.raises(Failure) as found:
        await called()
    return found.value


async def command(*arguments: str) -> tuple[int | None, str]:
    """A command in a terminal of its own: its exit code, and what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aimass.cli", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, " ".join(output.decode().split())


async def test_a_token_that_has_ended_is_renewed_and_nobody_is_asked(login: Login, corp: Renewing) -> None:
    before = login()
    first = refresh()

    assert await called() == "user:corp:ann"
    assert (now().key != before.key, refresh() != first) == (True, True)
    assert await called() == "user:corp:ann"
    assert corp.shown == [first]
    assert stat.S_IMODE(Path(now().origin).stat().st_mode) == 0o600


async def test_where_nothing_can_be_kept_a_process_goes_on_with_what_it_got(login: Login, corp: Renewing) -> None:
    login()
    first, blocked = refresh(), Path(now().origin).with_suffix(".new")
    blocked.mkdir()  # as a full disk: nothing can be written aside
    corp.given = lambda answer: answer | {"expires_in": 0.2}

    with Client() as client:

        async def renewed(times: int) -> bool:
            assert (await asyncio.to_thread(client.access.who_am_i)).principal == "user:corp:ann"
            return len(corp.shown) >= times

        await until(partial(renewed, 2))
        assert refresh() == first
        blocked.rmdir()
        await until(partial(renewed, len(corp.shown) + 1))

    assert len(set(corp.shown)) == len(corp.shown), "none is shown twice, for which an issuer ends the login"
    assert refresh() in corp.families


async def test_what_an_issuer_gave_is_used_also_where_the_login_cannot_even_be_read_any_more(
    login: Login, corp: Renewing
) -> None:
    file = Path(login().origin)

    def spoil(said: dict[str, Any]) -> dict[str, Any]:
        """As where no more files can be opened."""
        if file.is_file():
            file.rename(file.with_suffix(".away"))
            file.mkdir()
        return said

    corp.given = spoil
    with Client() as client:
        for _ in range(2):
            assert (await asyncio.to_thread(client.access.who_am_i)).principal == "user:corp:ann"
    assert len(corp.shown) == 1


async def test_a_token_is_renewed_before_it_ends(login: Login, corp: Renewing) -> None:
    before, begun = login(corp.token(), due=time.time() - 1), time.time()

    assert await called() == "user:corp:ann"
    grant = now().grant
    assert grant
    assert now().key != before.key
    assert begun + 540 <= grant.due <= time.time() + 540  # a minute before its 600 seconds are over


async def test_a_login_in_the_browser_is_one_that_is_renewed(
    door: tuple[Gateway, Renewing], corp: Renewing, tmp_path: Path
) -> None:
    code, output = await logs_in(door, tmp_path)
    assert code == 0, output
    first, grant = refresh(), now().grant
    assert grant
    assert (grant.subject, grant.due > time.time(), first in output) == (ANN, True, False)

    save(replace(now(), key=corp.token(**ENDED)))
    corp.identity = {"nonce": grant.nonce}
    assert await command("access", "who-am-i", "-o", "json") == (0, await as_json())
    assert corp.shown == [first]


async def test_a_login_in_the_browser_ends_the_one_before_it(
    door: tuple[Gateway, Renewing], login: Login, corp: Renewing, tmp_path: Path
) -> None:
    login()
    first = refresh()
    code, output = await logs_in(door, tmp_path)

    assert code == 0, output
    assert (corp.withdrawn, refresh() in corp.families) == ([first], True)
    assert await called() == "user:corp:ann"


async def test_a_login_that_is_being_renewed_is_ended_by_what_its_process_gets(
    door: tuple[Gateway, Renewing], login: Login, corp: Renewing, tmp_path: Path
) -> None:
    login()
    corp.answers.clear()
    asking = asyncio.ensure_future(called())
    await until(lambda: corp.shown)
    beginning = asyncio.ensure_future(logs_in(door, tmp_path))
    await asyncio.wait({beginning}, timeout=2)  # it has come to the one before it, and waits
    corp.answers.set()
    code, output = await beginning

    assert (code, await asking) == (0, "user:corp:ann"), output
    assert set(corp.families) == {refresh()}, "no other lives on"


async def test_a_login_that_does_not_begin_leaves_the_one_before_it(
    door: tuple[Gateway, Renewing], login: Login, corp: Renewing, tmp_path: Path
) -> None:
    login()
    code, output = await logs_in(door, tmp_path, issuer="nobody")

    assert code != 0, output
    assert (corp.withdrawn, await called()) == ([], "user:corp:ann")


@pytest.mark.parametrize("told", [True, False])
async def test_a_key_that_is_kept_ends_the_login_before_it(
    door: tuple[Gateway, Renewing], login: Login, corp: Renewing, told: bool
) -> None:
    login()
    first, url = refresh(), door[0].doors["http"]
    if not told:
        corp.known = {"revocation_endpoint": "http://issuer.example/revoke"}
    wrong = await command("login", url, "--key", "aim_aaaaaaaa_" + "a" * 43)
    assert (wrong[0] != 0, refresh(), corp.withdrawn) == (True, first, [])
    code, output = await command("login", url, "--key", door[0].admin)

    assert code == 0, output
    assert (now().grant, corp.withdrawn) == (None, [first] if told else [])
    assert ("did not revoke the earlier login" in output) is not told


async def as_json() -> str:
    return (await command("access", "who-am-i", "-o", "json"))[1]


async def test_processes_that_share_a_login_renew_it_once(login: Login, corp: Renewing) -> None:
    """The provider ends a login of which one refresh token comes twice."""
    login()
    done = await asyncio.gather(*(command("access", "who-am-i") for _ in range(4)))

    assert [code for code, _ in done] == [0] * 4, done
    assert len(corp.shown) == 1
    assert await called() == "user:corp:ann"


async def test_threads_with_clients_of_their_own_renew_it_once(login: Login, corp: Renewing) -> None:
    login()
    together, found = threading.Barrier(12), list[str]()

    def one() -> None:
        with Client() as client:
            together.wait(30)
            found.append(client.access.who_am_i().principal)

    threads = [threading.Thread(target=one) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join, 60)
    assert found == ["user:corp:ann"] * 12
    assert len(corp.shown) == 1


async def test_a_client_that_does_not_block_renews_it_once_for_all_its_calls(login: Login, corp: Renewing) -> None:
    login()
    async with AsyncClient() as client:
        found = await asyncio.gather(*(client.access.who_am_i() for _ in range(10)))
        assert {one.principal for one in found} == {"user:corp:ann"}
        assert len(corp.shown) == 1


async def test_a_stream_that_is_refused_is_opened_again(login: Login, corp: Renewing) -> None:
    found = login()
    http = httpx2.AsyncClient(base_url=found.url, auth=RenewingAuth(found))
    async with http, http.stream("GET", "/v1/whoami") as response:
        assert response.status_code == 200
        assert b"user:corp:ann" in await response.aread()


async def test_a_client_goes_on_when_its_token_ends_again_and_again(login: Login, corp: Renewing) -> None:
    """The issuer does not say when that is."""
    corp.given = lambda answer: answer | {"expires_in": "later"}
    auth = RenewingAuth(login())
    with httpx2.Client(base_url=now().url, auth=auth) as http:
        for turn in range(1, 4):
            assert (await asyncio.to_thread(http.get, "/v1/whoami")).status_code == 200
            assert len(corp.shown) == turn
            ends(auth, corp)


def ends(auth: RenewingAuth, corp: Renewing) -> None:
    """The token that somebody has is over, here and in the file."""
    auth._door = replace(auth._door, key=corp.token(**ENDED))
    save(replace(now(), key=auth._door.key))


async def test_who_gives_no_other_refresh_token_means_the_same_one(login: Login, corp: Renewing) -> None:
    corp.rotates = False
    login()
    first = refresh()

    assert await called() == "user:corp:ann"
    assert refresh() == first


@pytest.mark.parametrize("life", ["soon", -1, float("nan"), True, [], {}, 1e300, None])
async def test_a_life_that_nobody_can_read_is_left_to_the_gateway(login: Login, corp: Renewing, life: Any) -> None:
    corp.given = lambda answer: answer | {"expires_in": life}
    login()

    assert await called() == "user:corp:ann"
    assert await called() == "user:corp:ann"
    assert len(corp.shown) == 1


async def test_a_login_that_was_withdrawn_says_how_to_begin_another(login: Login, corp: Renewing) -> None:
    found = login()
    corp.families.clear()

    failure = await refuses()
    assert failure.code == "login_ended"
    assert f"run `aimass login {found.url} --issuer corp`" in failure.detail
    assert (refresh(), len(corp.shown)) == ("", 1)
    code, output = await command("access", "who-am-i")
    assert (code, "login_ended" in output, len(corp.shown)) == (4, True, 1)  # nobody asks the issuer again
    _, doctor = await command("doctor")
    assert "the login has ended" in doctor


async def test_a_refresh_token_that_was_used_elsewhere_ends_the_login_for_both(login: Login, corp: Renewing) -> None:
    stolen = login()
    assert await called() == "user:corp:ann"
    ours = now()
    save(stolen)
    assert (await refuses()).code == "login_ended"
    save(replace(ours, key=corp.token(**ENDED)))
    assert (await refuses()).code == "login_ended"


async def test_a_token_without_a_refresh_token_ends_and_that_is_said(login: Login, corp: Renewing) -> None:
    login(refresh="")
    assert (await refuses()).code == "login_ended"
    assert corp.shown == []


async def test_a_key_that_is_passed_is_not_renewed(login: Login, corp: Renewing) -> None:
    found = login()
    with Client(found.url, found.key) as client, pytest.raises(Failure) as refused:
        await asyncio.to_thread(client.access.who_am_i)
    assert (refused.value.code, corp.shown) == ("token_invalid", [])


OTHERS = [{"sub": "eve"}, {"iss": "https://other.example"}, {"aud": "other"}, {"azp": "other"}, {"nonce": "another"}]


@pytest.mark.parametrize("identity", [*OTHERS, {"sub": None}, {"sub": 7}])
async def test_an_answer_for_somebody_else_is_not_kept(login: Login, corp: Renewing, identity: dict[str, Any]) -> None:
    before = login()
    theirs = corp.token(**({"aud": CLIENT} | identity))
    corp.given = lambda answer: answer | {"id_token": theirs}

    failure = await refuses()
    assert failure.code == "unauthenticated"
    assert "for another login" in failure.detail or "who logged in" in failure.detail
    assert now() == before


@pytest.mark.parametrize(
    "given", [{"access_token": ""}, {"access_token": "a b"}, {"access_token": "é"}, {"token_type": "DPoP"}]
)
async def test_what_is_no_token_is_not_kept(login: Login, corp: Renewing, given: dict[str, Any]) -> None:
    before = login()
    corp.given = lambda answer: answer | given

    assert "returned no bearer token" in (await refuses()).detail
    assert now() == before


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"issuer": "https://other.example"}, "that of another issuer"),
        ({"token_endpoint": "http://login.example/token"}, "https address"),
        ({"token_endpoint": None}, "https address"),
    ],
)
async def test_a_refresh_token_is_shown_to_nobody_else(
    login: Login, corp: Renewing, said: dict[str, Any], says: str
) -> None:
    login()
    corp.known = said

    assert says in (await refuses()).detail
    assert corp.shown == []


@pytest.mark.parametrize(
    ("fails", "code"),
    [
        ((503, {}), "unavailable"),
        ((429, {"error": "slow_down"}), "unavailable"),
        ((400, {"error": "invalid_client"}), "unauthenticated"),
        ((302, {}), "unauthenticated"),
    ],
)
async def test_what_an_issuer_says_for_now_costs_no_login(
    login: Login, corp: Renewing, fails: tuple[int, dict[str, Any]], code: str
) -> None:
    login()
    corp.fails = fails
    assert (await refuses()).code == code

    corp.fails = None
    assert await called() == "user:corp:ann"


async def test_a_token_that_is_still_good_does_while_the_issuer_is_away(login: Login, corp: Renewing) -> None:
    before = login(corp.token(), due=1.0)
    corp.close()
    try:
        with Client() as client:
            for _ in range(3):
                assert (await asyncio.to_thread(client.access.who_am_i)).principal == "user:corp:ann"
        save(replace(before, key=corp.token(**ENDED)))
        failure = await refuses()
    finally:
        corp.open()
    assert (failure.code, "cannot be reached" in failure.detail) == ("unavailable", True)
    assert await called() == "user:corp:ann"


async def test_a_failed_renewal_is_not_tried_again_with_each_call(
    login: Login, corp: Renewing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "_REST", 3600.0)
    login(corp.token(), due=1.0)
    corp.fails = (503, {})
    with Client() as client:
        for _ in range(5):
            await asyncio.to_thread(client.access.who_am_i)
    assert len(corp.shown) == 1


@pytest.mark.parametrize("due", [1.0, FAR])
@pytest.mark.parametrize("identity", [ENDED, {"iat": int(FAR), "exp": int(FAR) + 600}])
async def test_a_wrong_clock_of_ours_costs_no_login(
    login: Login, corp: Renewing, due: float, identity: dict[str, Any]
) -> None:
    login(due=due)
    corp.identity = identity

    assert await called() == "user:corp:ann"
    assert len(corp.shown) == 1


async def test_a_new_token_that_the_gateway_does_not_take_is_not_renewed_for_ever(login: Login, corp: Renewing) -> None:
    login()
    corp.access = {"aud": "payroll"}
    with Client() as client:
        for _ in range(3):
            with pytest.raises(Failure, match="token_invalid"):
                await asyncio.to_thread(client.access.who_am_i)
    assert len(corp.shown) == 1
    assert refresh() in corp.families  # what the issuer gave is kept nevertheless


async def test_who_logs_out_is_logged_out_in_every_process(login: Login, corp: Renewing) -> None:
    found = login()
    first = refresh()
    with Client() as client:  # it has not called yet, and shows a token that has ended
        code, output = await command("logout")
        assert (code, output) == (0, f"logged out of {found.url}")
        assert (corp.withdrawn, Path(found.origin).exists()) == ([first], False)
        with pytest.raises(Failure, match="login_ended"):
            await asyncio.to_thread(client.access.who_am_i)
    assert corp.shown == []


async def test_a_process_does_not_go_on_as_who_logs_in_after_it(login: Login, corp: Renewing) -> None:
    login()
    with Client() as client:
        login(corp.token(sub="eve"), subject="another")
        with pytest.raises(Failure, match="login_ended"):
            await asyncio.to_thread(client.access.who_am_i)
    assert corp.shown == []


async def test_a_logout_forgets_also_where_the_issuer_is_away_and_says_so(login: Login, corp: Renewing) -> None:
    found = login()
    corp.close()
    try:
        code, output = await command("logout")
    finally:
        corp.open()
    assert code == 3
    assert "logged out here; the issuer did not revoke the login" in output
    assert not Path(found.origin).exists()


async def test_a_logout_where_there_is_nothing_to_tell(login: Login, corp: Renewing) -> None:
    login()
    corp.known = {"revocation_endpoint": "http://login.example/revoke"}
    assert "https address" in str(log_out()[1])
    login(refresh="")
    assert log_out()[1] is None
    save(Door("https://far.example", "aim_key"))
    assert log_out()[1] is None
    code, output = await command("logout")
    assert (code, "nobody is logged in here" in output) == (4, True)
    assert corp.withdrawn == []


async def test_a_login_that_cannot_be_kept_is_not_spent(login: Login, corp: Renewing) -> None:
    before = login()
    Path(before.origin).with_suffix(".lock").mkdir()

    failure = await refuses()
    assert failure.code == "failed_precondition"
    assert corp.shown == []


async def test_whoever_holds_the_login_is_waited_for_and_not_for_ever(login: Login, corp: Renewing) -> None:
    login()
    with alone(), pytest.raises(Failure, match="another process has held"), alone(patience=0.1):
        raise AssertionError("two at once")
    assert await called() == "user:corp:ann"


async def test_who_interrupts_a_renewal_does_not_lose_the_login(login: Login, corp: Renewing) -> None:
    before = login()
    corp.answers.clear()
    # As from a terminal: who is started in the background by a shell has nobody to interrupt him.
    heard = "import signal, aimass.cli as cli; signal.signal(signal.SIGINT, signal.default_int_handler); cli.main()"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", heard, "access", "who-am-i")
    try:
        async with asyncio.timeout(60):
            await until(lambda: corp.shown)
            process.send_signal(signal.SIGINT)
            corp.answers.set()
            assert await process.wait() == 130
    finally:
        corp.answers.set()
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert now().key != before.key
    assert refresh() in corp.families
