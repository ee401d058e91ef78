"""Who is at the other end of a wire: doors and channels with certificates."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from deploy.authority import Authority
from services.kit import tls
from services.kit.auth import Identity, Principal, service_principal
from services.kit.channels import RemoteChannel
from services.kit.config import ConfigError
from services.kit.errors import Code, Failure, Forbidden, Unauthenticated
from services.kit.grpc_door import GrpcDoor
from services.kit.rpc import guard
from services.kit.tls import Credentials
from tests.kit.conftest import SCOPE, now
from tests.kit.test_channels import SERVICE, EchoApi, declare, say
from tests.support.certificates import certify


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new()


@pytest.fixture
def serving(tmp_path: Path, authority: Authority) -> Path:
    return certify(tmp_path / "serving", authority, "data", "logs")


@pytest.fixture
async def address(identity: Identity, free_port: int, serving: Path) -> AsyncIterator[str]:
    """A door of the services data and logs."""
    declare()
    guarded = guard({SERVICE: EchoApi()}, identity, "data", now, None)
    door = GrpcDoor(f"127.0.0.1:{free_port}", guarded, credentials=Credentials(serving))
    await door.open()
    yield f"127.0.0.1:{free_port}"
    await door.close(0)


async def ask(
    address: str, identity: Identity, folder: Path, principal: Principal | None = None, at: str = "data"
) -> str:
    """The answer to one call on a new connection, with a process's certificate."""
    channel = RemoteChannel(address, at, Credentials(folder))
    try:
        return await over(channel, identity, principal)
    finally:
        await channel.close()


async def over(
    channel: RemoteChannel,
    identity: Identity,
    principal: Principal | None = None,
    word: str = "hello",
    timeout: float = 2,
) -> str:
    token = identity.token("data", principal or Principal(SCOPE, "key:test", ("*",)))
    metadata = (("authorization", f"Bearer {token}"),)
    return (await say(channel, identity, "One", word, metadata=metadata, timeout=timeout))[0]


async def test_the_gateway_speaks_for_keys(
    address: str, identity: Identity, tmp_path: Path, authority: Authority
) -> None:
    assert await ask(address, identity, certify(tmp_path / "own", authority, "gateway")) == "hello"


async def test_a_certificate_of_several_services_speaks_for_each(
    address: str, identity: Identity, tmp_path: Path, authority: Authority
) -> None:
    folder = certify(tmp_path / "own", authority, "trainer", "gateway")

    assert await ask(address, identity, folder) == "hello"


@pytest.mark.parametrize("name", ["trainer", "data", "probe"])
async def test_nobody_else_speaks_for_keys(
    name: str, address: str, identity: Identity, tmp_path: Path, authority: Authority
) -> None:
    with pytest.raises(Forbidden, match="the certificate is not that of gateway"):
        await ask(address, identity, certify(tmp_path / "own", authority, name))


async def test_a_trainer_does_not_speak_as_the_registry(
    address: str, identity: Identity, tmp_path: Path, authority: Authority
) -> None:
    own = certify(tmp_path / "own", authority, "trainer")
    with pytest.raises(Forbidden, match="the certificate is not that of registry"):
        await ask(address, identity, own, service_principal("registry", SCOPE, ("*",)))


async def test_a_caller_without_a_certificate_is_not_answered(address: str, identity: Identity) -> None:
    plain = RemoteChannel(address, "data")
    with pytest.raises(Failure):
        await over(plain, identity)
    await plain.close()


async def test_a_certificate_of_another_authority_is_not_believed(
    address: str, identity: Identity, tmp_path: Path, authority: Authority
) -> None:
    folder = certify(tmp_path / "own", Authority.new(), "gateway", trust=authority.pem)

    with pytest.raises(Failure):
        await ask(address, identity, folder)


@pytest.mark.parametrize(("service", "answers"), [("data", True), ("logs", True), ("registry", False)])
async def test_a_caller_checks_that_the_other_side_is_the_service_it_calls(
    service: str, answers: bool, address: str, identity: Identity, tmp_path: Path, authority: Authority
) -> None:
    folder = certify(tmp_path / "own", authority, "gateway")
    if answers:
        assert await ask(address, identity, folder, at=service) == "hello"
    else:
        with pytest.raises(Failure) as caught:
            await ask(address, identity, folder, at=service)
        assert caught.value.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)


async def test_a_door_takes_over_a_new_authority_without_a_restart(
    address: str, identity: Identity, tmp_path: Path, authority: Authority, serving: Path
) -> None:
    """First both are believed, then the new one alone; a connection that is still open does not outlive the old one."""
    other = Authority.new()
    old = certify(tmp_path / "old", authority, "gateway", trust=other.pem)
    new = certify(tmp_path / "new", other, "gateway", trust=authority.pem)
    open_one = RemoteChannel(address, "data", Credentials(old))
    assert await over(open_one, identity) == "hello"

    certify(serving, authority, "data", trust=other.pem)
    assert await ask(address, identity, new) == "hello"
    assert await ask(address, identity, old) == "hello"

    certify(serving, other, "data")
    assert await ask(address, identity, new) == "hello"
    with pytest.raises(Failure):
        await ask(address, identity, old)
    with pytest.raises(Unauthenticated, match="certificate is not valid"):
        await over(open_one, identity)
    await open_one.close()


async def test_certificates_and_authority_are_replaced_under_load_and_no_call_fails(
    address: str,
    identity: Identity,
    tmp_path: Path,
    authority: Authority,
    serving: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tls, "_LOOK", 0.2)
    other, folder = Authority.new(), certify(tmp_path / "own", authority, "gateway")
    own = Credentials(folder)
    channel = RemoteChannel(address, "data", own)
    watching = asyncio.ensure_future(own.watch(channel.renew))
    answers: list[str] = []

    async def load() -> None:
        while not watching.cancelled():
            answers.append(await over(channel, identity, word="dwell", timeout=5))

    # Each call stays for a moment: at any time some are under way, with little work for the machine.
    loading = [asyncio.ensure_future(load()) for _ in range(4)]
    # Both are believed everywhere, then the new one certifies, then it alone is believed.
    for signer, also in ((authority, other.pem), (other, authority.pem), (other, b"")):
        for place, name in ((folder, "gateway"), (serving, "data")):
            certify(place, signer, name, trust=also)
        await asyncio.sleep(1)  # some looks at the files
    watching.cancel()
    await asyncio.gather(*loading)
    await channel.close()

    assert len(answers) > 100
    assert set(answers) == {"dwell"}
    with pytest.raises(Failure):
        await ask(address, identity, certify(tmp_path / "old", authority, "gateway", trust=other.pem))


async def test_a_connection_does_not_outlive_its_certificate(
    address: str, identity: Identity, tmp_path: Path, authority: Authority
) -> None:
    own = Credentials(certify(tmp_path / "own", authority, "gateway", lifetime=timedelta(seconds=3)))
    channel = RemoteChannel(address, "data", own)
    assert await over(channel, identity) == "hello"
    await asyncio.sleep(3.1)
    with pytest.raises(Unauthenticated, match="certificate is not valid"):
        await over(channel, identity)
    await channel.close()


def lock(file: Path) -> None:
    """Puts a password on a key."""
    key, words = load_pem_private_key(file.read_bytes(), None), BestAvailableEncryption(b"password")
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, words))


async def test_files_that_do_not_fit_each_other_change_nothing(
    address: str, identity: Identity, tmp_path: Path, authority: Authority, serving: Path
) -> None:
    own = certify(tmp_path / "own", authority, "gateway")
    issued = authority.issue(["data"])
    (serving / "key.pem").write_bytes(issued.key)
    assert await ask(address, identity, own) == "hello"
    (serving / "cert.pem").write_bytes(b"-----BEGIN")
    assert await ask(address, identity, own) == "hello"
    (serving / "cert.pem").write_bytes(issued.cert)
    assert await ask(address, identity, own) == "hello"
    lock(serving / "key.pem")
    assert await ask(address, identity, own) == "hello"


async def test_a_change_of_the_files_is_told(tmp_path: Path, authority: Authority) -> None:
    own = Credentials(certify(tmp_path, authority, "data"))
    renewed = asyncio.Event()
    watching = asyncio.ensure_future(own.watch(renewed.set))
    certify(tmp_path, authority, "data", "logs")
    async with asyncio.timeout(5):
        await renewed.wait()
    watching.cancel()

    assert own.names == {"data", "logs"}


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("ca.pem", None, "No such file"),
        ("key.pem", "other", "do not belong together"),
        ("cert.pem", "public", "names no service"),
        ("cert.pem", "-----", "PEM"),
        ("key.pem", "locked", "must have no password"),
    ],
)
def test_a_folder_that_cannot_be_used_stops_the_start(
    file: str, content: str | None, says: str, tmp_path: Path, authority: Authority
) -> None:
    certify(tmp_path, authority, "data")
    if content is None:
        (tmp_path / file).unlink()
    elif content == "other":
        (tmp_path / file).write_bytes(authority.issue(["data"]).key)
    elif content == "locked":
        lock(tmp_path / file)
    elif content == "public":
        issued = authority.issue_public(["data"])
        (tmp_path / "key.pem").write_bytes(issued.key)
        (tmp_path / file).write_bytes(issued.cert)
    else:
        (tmp_path / file).write_text(content)
    with pytest.raises(ConfigError, match=f"AIMASS_TLS_DIR: .*{says}"):
        Credentials(tmp_path)
