"""The public doors with TLS."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from grpc import aio

from aimass import AsyncClient, Failure
from aimass.v1 import access_pb2
from aimass.v1.access_pb2_grpc import AccessStub
from deploy.authority import Authority
from services.gateway.certificate import Certificate
from services.kit.config import ConfigError
from tests.support.house import House, house

PORTS = {"AIMASS_GATEWAY_HTTP_PORT": "0", "AIMASS_GATEWAY_GRPC_PORT": "0", "AIMASS_GATEWAY_DRAIN_ACCEPT_SECONDS": "0.5"}


class Secure:
    """A gateway with a certificate, and the authority that clients trust."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.authority = folder, Authority.new()
        self.env = {
            "AIMASS_GATEWAY_TLS_CERT": str(folder / "cert.pem"),
            "AIMASS_GATEWAY_TLS_KEY": str(folder / "key.pem"),
        }
        self.ca = str(folder / "ca.pem")
        self.renew()

    def renew(self, authority: Authority | None = None) -> None:
        """New files, the key first; a client trusts the authority of the day."""
        self.authority = authority or self.authority
        issued = self.authority.issue_public(["localhost", "127.0.0.1"])
        (self.folder / "key.pem").write_bytes(issued.key)
        (self.folder / "cert.pem").write_bytes(issued.cert)
        (self.folder / "ca.pem").write_bytes(self.authority.pem)

    def open(self, home: House) -> None:
        self.doors: dict[str, str] = json.loads((home.runtime.home / "doors.json").read_text())
        self.key = (home.runtime.home / "admin-key").read_text().strip()

    async def over_http(self) -> int:
        """The status of one request on a new connection."""
        headers = {"authorization": f"Bearer {self.key}"}
        context = ssl.create_default_context(cafile=self.ca)
        async with httpx2.AsyncClient(base_url=self.doors["http"], verify=context, headers=headers) as client:
            return (await client.get("/v1/whoami")).status_code

    async def over_grpc(self) -> str:
        """The tenant that one call on a new connection speaks for."""
        credentials = grpc.ssl_channel_credentials(self.authority.pem)
        async with aio.secure_channel(self.doors["grpc"], credentials) as channel:
            stub: Any = AccessStub(channel)
            metadata = (("authorization", f"Bearer {self.key}"),)
            return str((await stub.WhoAmI(access_pb2.WhoAmIRequest(), timeout=5, metadata=metadata)).tenant)


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[Secure]:
    (tmp_path / "tls").mkdir()
    found = Secure(tmp_path / "tls")
    async with house(tmp_path / "home", "gateway", **PORTS, **found.env) as running:
        found.open(running)
        yield found


async def test_both_doors_show_the_certificate(secure: Secure) -> None:
    assert secure.doors["http"].startswith("https://")
    assert await secure.over_http() == 200
    assert await secure.over_grpc() == "default"


async def test_a_new_certificate_is_shown_without_a_restart(secure: Secure) -> None:
    for authority in (None, Authority.new()):
        secure.renew(authority)
        assert await secure.over_http() == 200
        assert await secure.over_grpc() == "default"


async def test_half_a_renewal_changes_nothing(secure: Secure) -> None:
    (secure.folder / "key.pem").write_bytes(secure.authority.issue_public(["localhost"]).key)
    assert await secure.over_http() == 200
    (secure.folder / "cert.pem").unlink()
    assert await secure.over_http() == 200
    assert await secure.over_grpc() == "default"


async def test_the_client_trusts_the_authority_that_it_is_given(secure: Secure) -> None:
    async with AsyncClient(secure.doors["http"], secure.key, ca=secure.ca) as client:
        assert (await client.access.who_am_i()).tenant == "default"

    async with AsyncClient(secure.doors["http"], secure.key) as client:
        with pytest.raises(Failure, match="unknown authority"):
            await client.access.who_am_i(timeout=1)


async def test_who_speaks_no_tls_is_not_answered_and_stops_nobody(secure: Secure) -> None:
    host, port = secure.doors["http"].removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        assert b"HTTP/1.1 2" not in await asyncio.wait_for(reader.read(), 5)
    writer.close()

    assert await secure.over_http() == 200


async def test_a_connection_that_has_not_greeted_yet_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    secure = Secure(tmp_path / "tls")
    env = PORTS | secure.env | {"AIMASS_DRAIN_SECONDS": "10"}
    async with house(tmp_path / "home", "gateway", **env) as running:
        secure.open(running)
        host, port = secure.doors["http"].removeprefix("https://").split(":")
        silent = socket.create_connection((host, int(port)))
        stopping = asyncio.ensure_future(running.process._drain(10, 0))
        await asyncio.sleep(1.5)
        context = ssl.create_default_context(cafile=secure.ca)
        reader, writer = await asyncio.open_connection(sock=silent, ssl=context, server_hostname=host)
        writer.write(f"GET /v1/whoami HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {secure.key}\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await stopping

    assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("cert", "key", "says"),
    [
        ("other", "own", "certificate and key do not fit"),
        ("own", "nothing", "cannot be read"),
        ("own", "text", "certificate and key do not fit"),
    ],
)
def test_files_that_cannot_be_used_stop_the_start(cert: str, key: str, says: str, tmp_path: Path) -> None:
    authority = Authority.new()
    (tmp_path / "text").write_text("no key")
    for name in ("own", "other"):
        issued = authority.issue_public([name])
        (tmp_path / f"{name}.pem").write_bytes(issued.cert)
        (tmp_path / f"{name}.key").write_bytes(issued.key)
    with pytest.raises(ConfigError, match=f"AIMASS_GATEWAY_TLS_CERT, _TLS_KEY: .*{says}"):
        Certificate(tmp_path / f"{cert}.pem", tmp_path / ("own.key" if key == "own" else key))
