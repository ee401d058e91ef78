"""People who log in from a terminal: through the browser to the provider, and back to this machine."""

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import pytest_asyncio

from aimass.failures import Failure
from aimass.login import Login, Offer, Stray, offer
from tests.gateway.conftest import Gateway, gateway_at
from tests.gateway.issuing import write
from tests.gateway.providing import CLIENT, Provider
from tests.gateway.test_issuers import good, settings
from tests.support.house import until

pytestmark = pytest.mark.asyncio(loop_scope="module")
BACK = "http://127.0.0.1:49152/callback"
# A browser that goes where it is sent, and before that to where a page of somebody else sends it.
BROWSER = """
import sys, urllib.parse, urllib.request
address, stray = sys.argv[2], sys.argv[1]
back = urllib.parse.parse_qs(urllib.parse.urlsplit(address).query)["redirect_uri"][0]
for query in [part for part in stray.split(",") if part != "-"]:
    try:
        urllib.request.urlopen(f"{back}?{query}")
    except urllib.error.HTTPError as error:
        assert error.code == 404, error.code
try:
    print(urllib.request.urlopen(address).read().decode(), file=sys.stderr)
except urllib.error.HTTPError as error:
    print(error.read().decode(), file=sys.stderr)
"""


@pytest.fixture
def corp() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, Provider]]:
    home, provider = tmp_path_factory.mktemp("home"), Provider()
    file = write(
        home / "issuers.toml", provider.entry(), super(Provider, provider).entry("silent", "default", "silent")
    )
    async with gateway_at(home, **settings(file, provider)) as running:
        await until(partial(good, running, provider))
        yield running, provider
    provider.close()


@pytest.fixture
def provider(door: tuple[Gateway, Provider]) -> Iterator[Provider]:
    """That of the gateway, as it was before each test."""
    found = door[1]
    yield found
    found.known, found.identity = {}, {}
    found.back = found.given = lambda fields: fields


async def logs_in(door: tuple[Gateway, Provider], folder: Path, stray: str = "-", issuer: str = "corp") -> Any:
    """The command in a terminal: its exit code, and what it says."""
    script = folder / "browser.py"
    script.write_text(BROWSER)
    others = {name: value for name, value in os.environ.items() if not name.startswith(("AIMASS_", "XDG_"))}
    env = others | {"HOME": str(folder), "BROWSER": f"{sys.executable} {script} {stray} %s"}
    arguments = ["-m", "aimass.cli", "login", door[0].doors["http"], "--issuer", issuer]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(30):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode, " ".join(output.decode().split())


def kept(folder: Path) -> Path:
    return folder / ".config" / "aimass" / "config.toml"


async def test_who_logs_in_has_a_token_that_is_his_alone(
    door: tuple[Gateway, Provider], provider: Provider, tmp_path: Path
) -> None:
    code, output = await logs_in(door, tmp_path)

    assert code == 0, output
    assert "user:corp:ann of tenant default" in output
    assert "You are logged in." in output
    assert stat.S_IMODE(kept(tmp_path).stat().st_mode) == 0o600
    token = kept(tmp_path).read_text().split('key = "')[1].split('"')[0]
    assert token.count(".") == 2
    assert token not in output
    async with door[0].client(token) as client:
        assert (await client.get("/v1/whoami")).json()["principal"] == "user:corp:ann"


@pytest.mark.parametrize("stray", ["state=wrong&code=theirs", "code=theirs", "state=&error=no,state=x&state=y&code=z"])
async def test_what_belongs_to_no_login_is_passed_over(
    door: tuple[Gateway, Provider], provider: Provider, tmp_path: Path, stray: str
) -> None:
    code, output = await logs_in(door, tmp_path, f'"{stray}"')

    assert code == 0, output
    assert "theirs" not in provider.used


async def test_a_code_is_shown_once(door: tuple[Gateway, Provider], provider: Provider, tmp_path: Path) -> None:
    def replayed(fields: dict[str, str]) -> dict[str, str]:
        provider.codes.pop(fields["code"])
        return fields

    provider.back = replayed
    code, output = await logs_in(door, tmp_path)

    assert code != 0
    assert "answers with 400" in output
    assert not kept(tmp_path).exists()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"iss": "https://other.example"}, "that of another issuer"),
        ({"iss": ""}, "that of another issuer"),
        ({"code": ""}, "neither a code nor an error"),
        ({"error": "access_denied"}, "the issuer refuses: 'access_denied'"),
    ],
)
async def test_an_answer_that_is_wrong_ends_the_login(
    door: tuple[Gateway, Provider], provider: Provider, tmp_path: Path, fields: dict[str, str], says: str
) -> None:
    used = len(provider.used)
    provider.back = lambda said: {name: value for name, value in (said | fields).items() if value}
    code, said = await logs_in(door, tmp_path)

    assert code != 0
    assert says in said
    assert "The login failed." in said
    assert (len(provider.used), kept(tmp_path).exists()) == (used, False)


@pytest.mark.parametrize(
    "identity",
    [{"nonce": "another"}, {"iss": "https://other.example"}, {"aud": "other"}, {"azp": "other"}, {"exp": 1}],
)
async def test_an_identity_of_another_login_is_not_taken(
    door: tuple[Gateway, Provider], provider: Provider, tmp_path: Path, identity: dict[str, Any]
) -> None:
    theirs = provider.token(**({"aud": CLIENT, "nonce": "n"} | identity))
    if "nonce" not in identity:
        provider.given = lambda said: said | {"id_token": with_nonce(provider, said["id_token"], identity)}
    else:
        provider.given = lambda said: said | {"id_token": theirs}
    code, said = await logs_in(door, tmp_path)

    assert code != 0
    assert "the issuer's answer is for another login" in said
    assert not kept(tmp_path).exists()


def with_nonce(provider: Provider, token: str, changes: dict[str, Any]) -> str:
    import jwt

    nonce = jwt.decode(token, options={"verify_signature": False})["nonce"]
    return provider.token(**({"aud": CLIENT, "nonce": nonce} | changes))


@pytest.mark.parametrize(
    "given", [{"access_token": ""}, {"token_type": "DPoP"}, {"id_token": "a.b"}, {"id_token": None}]
)
async def test_what_is_no_token_is_not_kept(
    door: tuple[Gateway, Provider], provider: Provider, tmp_path: Path, given: dict[str, Any]
) -> None:
    provider.given = lambda answer: answer | given

    assert (await logs_in(door, tmp_path))[0] != 0
    assert not kept(tmp_path).exists()


async def test_a_token_that_the_gateway_does_not_take_is_not_kept(
    door: tuple[Gateway, Provider], provider: Provider, tmp_path: Path
) -> None:
    provider.given = lambda said: said | {"access_token": provider.token(aud="payroll")}
    code, said = await logs_in(door, tmp_path)

    assert code != 0
    assert "the token is not valid" in said
    assert not kept(tmp_path).exists()


async def test_the_gateway_names_those_that_people_log_in_with_and_nothing_else(
    door: tuple[Gateway, Provider], provider: Provider, tmp_path: Path
) -> None:
    async with door[0].client("") as client:
        document = (await client.get("/v1/login")).json()
        wrong = await client.post("/v1/login", json={})
        other = await client.get("/v1/login/other")
    code, unknown = await logs_in(door, tmp_path, issuer="silent")

    only = {"issuer": "corp", "url": provider.url, "client_id": CLIENT, "scopes": ["openid", "profile"]}
    assert document == {"issuers": [only]}
    assert (wrong.status_code, other.status_code) == (405, 401)
    assert code != 0
    assert "there is no issuer silent; there is corp" in unknown


async def test_without_issuers_nobody_logs_in(gateway: Gateway, tmp_path: Path) -> None:
    code, output = await logs_in((gateway, Provider()), tmp_path)

    assert code != 0
    assert "there is no issuer corp" in output
    async with gateway.client("") as client:
        assert (await client.get("/v1/login")).status_code == 401


def begun(provider: Provider) -> Login:
    return Login.of(Offer("corp", provider.url, CLIENT, ("openid",)), BACK)


def came(login: Login) -> dict[str, list[str]]:
    """What the browser brings back."""
    answer = httpx2.get(login.address)
    return parse_qs(urlsplit(answer.headers["location"]).query)


async def test_a_code_belongs_to_the_one_who_asked_for_it(corp: Provider) -> None:
    mine, theirs = begun(corp), begun(corp)
    code = theirs.code(came(theirs))

    with pytest.raises(Stray):
        mine.code(came(theirs))
    with pytest.raises(Failure, match="answers with 400"):  # the provider asks for the verifier
        mine.token(code)
    assert len({mine.state, mine.nonce, mine.verifier, theirs.state, theirs.nonce, theirs.verifier}) == 6
    assert mine.verifier not in mine.address


@pytest.mark.parametrize(
    ("known", "says"),
    [
        ({"issuer": "https://other.example"}, "that of another issuer"),
        ({"code_challenge_methods_supported": ["plain"]}, "does not support PKCE with S256"),
        ({"authorization_endpoint": "http://login.example/authorize"}, "https address"),
        ({"authorization_endpoint": "file:///etc/passwd"}, "https address"),
        ({"token_endpoint": "http://login.example/token"}, "https address"),
        ({"token_endpoint": None}, "https address"),
    ],
)
async def test_an_issuer_that_is_not_safe_is_not_gone_to(corp: Provider, known: dict[str, Any], says: str) -> None:
    corp.known = known

    with pytest.raises(Failure, match=says):
        begun(corp)


@pytest.mark.parametrize("url", ["http://aimass.example", "http://10.0.0.1:8080", "ftp://localhost"])
async def test_a_gateway_that_others_could_speak_for_names_no_issuer(url: str) -> None:
    with pytest.raises(Failure, match="https address"):
        offer(url, "corp")


async def test_a_redirect_of_the_issuer_is_not_followed(corp: Provider) -> None:
    login = begun(corp)
    login.metadata = {**login.metadata, "token_endpoint": f"{corp.url}/authorize"}

    with pytest.raises(Failure, match="answers with"):
        login.token("code")
