import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.kit.egress import Egress
from services.kit.errors import Code, Failure
from tests.kit.test_addresses import PRIVATE

_ODD = """
http://8.8.8.8/ http://example.org/ https://127.1/ https://127.0.1/ https://2130706433/ https://0x7f000001/
https://0x7f.0.0.1/ https://0177.0.0.1/ https://017700000001/ https://0/ https://0x0/ https://127.0.0.1./ https://[::ffff:7f00:1]/
https://1.2.3/ https://localhost.1/ https://a.0x7f/ https://127.0.0.01/ https://0251.0376.0251.0376/ https://2852039166/
https://3232235777/ """
_BROKEN = """
ftp://8.8.8.8/ file:///etc/passwd gopher://x/ //x/ x https:// https://[::1 https://u:p@example.org/
https://example.org:99999/
https://exa%6dple.org/ https://ex$mple.org/ https://\u2488.example/ https://[example]/ https://[8.8.8.8]/ javascript:x
"""
# What a resolver refuses to look for.
UNNAMED = ("https://a..example/", f"https://{'a' * 64}.example/")
ODD, BROKEN = _ODD.split(), [*_BROKEN.split(), *UNNAMED]


class Sink:
    """A server that counts who connects and answers as told."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(next((x.split(b":")[1] for x in head.split(b"\r\n") if x.startswith(b"content-length")), b"0"))
            self.requests.append(head + await reader.readexactly(size))
            writer.write(self.answer)
            await writer.drain()
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    made = Sink()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


def resolver(*answers: Sequence[str]) -> Any:
    """Answers with each list in turn, then with the last for ever."""
    left = list(answers)
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return left.pop(0) if len(left) > 1 else left[0]

    resolve.asked = asked  # type: ignore[attr-defined]
    return resolve


async def code_of(egress: Egress, url: str, **more: Any) -> Code:
    with pytest.raises(Failure) as caught:
        await egress.request("GET", url, **more)
    await egress.close()
    return caught.value.code


@pytest.mark.parametrize("url", [f"https://{'[' + a + ']' if ':' in a else a}/" for a in PRIVATE if "%" not in a] + ODD)
async def test_no_form_of_a_private_address_is_reached(url: str) -> None:
    egress = Egress(resolve=resolver(["127.0.0.1"]))

    assert await code_of(egress, url) is Code.EGRESS_DENIED
    assert egress.connections == 0


@pytest.mark.parametrize("address", PRIVATE)
async def test_no_name_of_a_private_address_is_reached(address: str) -> None:
    egress = Egress(resolve=resolver(["8.8.8.8", address]))

    assert await code_of(egress, "https://innocent.example/") is Code.EGRESS_DENIED
    assert egress.connections == 0


@pytest.mark.parametrize("url", BROKEN)
async def test_what_is_no_url_is_invalid(url: str) -> None:
    assert await code_of(Egress(), url) is Code.INVALID_VALUE


@pytest.mark.parametrize("url", UNNAMED)
async def test_what_no_host_can_be_called_is_invalid_before_anything_is_sent(url: str) -> None:
    egress, host = Egress(), url.split("/")[2]
    for asked in (egress.check(url), egress.address(host, 443)):
        with pytest.raises(Failure) as caught:
            await asked
        assert caught.value.code is Code.INVALID_VALUE


def test_there_are_enough_forms() -> None:
    assert len(PRIVATE) + len(ODD) >= 100


async def test_nothing_arrives_when_a_name_turns_to_the_loopback(sink: Sink) -> None:
    """Rebinding: public when it is checked, private when it is used."""
    resolve = resolver(["93.184.216.34"], ["127.0.0.1"])
    egress = Egress(resolve=resolve)
    url = f"https://rebinding.example:{sink.port}/"

    await egress.check(url)

    assert await code_of(egress, url) is Code.EGRESS_DENIED
    assert (sink.connections, len(resolve.asked)) == (0, 2)


async def test_the_address_that_was_checked_is_the_one_connected_to(sink: Sink) -> None:
    """Of one call there is one resolution; a second would be the attacker's chance."""
    resolve = resolver(["127.0.0.1"], ["10.0.0.1"])
    egress = Egress(f"receiver.example:{sink.port}", resolve=resolve)

    answer = await egress.request("POST", f"http://receiver.example:{sink.port}/x?y=1", {"a": "b"}, b"body")

    assert (answer.status, answer.body) == (200, b"ok")
    assert sink.requests[0].startswith(b"POST /x?y=1 HTTP/1.1\r\n")
    assert f"host: receiver.example:{sink.port}".encode() in sink.requests[0]
    assert sink.requests[0].endswith(b"\r\n\r\nbody")
    assert len(resolve.asked) == 1
    await egress.close()


async def test_only_the_port_that_was_allowed_is_open(sink: Sink) -> None:
    assert await code_of(Egress("127.0.0.1:1"), f"http://127.0.0.1:{sink.port}/") is Code.EGRESS_DENIED
    assert sink.connections == 0


async def test_a_redirect_is_an_answer_and_is_not_followed(sink: Sink) -> None:
    sink.answer = (
        f"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{sink.port}/next\r\ncontent-length: 0\r\n\r\n".encode()
    )
    egress = Egress(f"127.0.0.1:{sink.port}")

    answer = await egress.request("GET", f"http://127.0.0.1:{sink.port}/")

    assert (answer.status, len(sink.requests)) == (302, 1)
    await egress.close()


async def test_an_endless_answer_is_cut(sink: Sink) -> None:
    sink.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n" + b"x" * 3_000_000
    egress = Egress(f"127.0.0.1:{sink.port}")

    assert await code_of(egress, f"http://127.0.0.1:{sink.port}/", most=100_000) is Code.LIMIT_EXCEEDED


async def test_a_silent_receiver_does_not_hold_the_caller(sink: Sink) -> None:
    sink.answer = b""
    egress = Egress(f"127.0.0.1:{sink.port}")

    assert await code_of(egress, f"http://127.0.0.1:{sink.port}/", seconds=0.2) is Code.DEADLINE_EXCEEDED


async def test_a_closed_port_and_an_unknown_name_are_unavailable(free_port: int) -> None:
    async def nowhere(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    assert await code_of(Egress("127.0.0.1"), f"http://127.0.0.1:{free_port}/") is Code.UNAVAILABLE
    assert await code_of(Egress(resolve=nowhere), "https://nowhere.example/") is Code.UNAVAILABLE
    await Egress(resolve=nowhere).check("https://nowhere.example/")


async def test_the_environment_names_no_proxy(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{sink.port}")
    egress = Egress(resolve=resolver(["127.0.0.1"]))

    assert await code_of(egress, "https://innocent.example/") is Code.EGRESS_DENIED
    assert sink.connections == 0


async def test_a_failure_names_no_address() -> None:
    with pytest.raises(Failure) as caught:
        await Egress(resolve=resolver(["10.1.2.3"])).request("GET", "https://innocent.example/")

    assert "10.1" not in caught.value.detail


async def test_tls_is_verified_by_the_name(tmp_path: Path, sink: Sink) -> None:
    server_side, trust = certificates(tmp_path, "receiver.example")
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0, ssl=server_side)
    port = server.sockets[0].getsockname()[1]

    egress = Egress("receiver.example,other.example", resolver(["127.0.0.1"]), trust)
    assert (await egress.request("GET", f"https://receiver.example:{port}/")).body == b"ok"

    assert await code_of(egress, f"https://other.example:{port}/") is Code.UNAVAILABLE
    assert len(sink.requests) == 1
    server.close()


def certificates(folder: Path, host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate of its own, and one that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(host), x509.IPAddress(IPv4Address("127.0.0.9"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem")
    trust = ssl.create_default_context(cadata=made.public_bytes(serialization.Encoding.PEM).decode())
    return server, trust
