"""The one way out: HTTP calls to addresses that others chose (RELIABILITY V5).

https only; the name is resolved once, every address must be public, the connection goes to the address that was checked
and its peer is looked at again before a byte is sent; no redirects, no proxies of the environment, bounded time, size.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from services.kit.addresses import Target, is_address, public, same
from services.kit.errors import Code, Failure, InvalidValue, Unavailable

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?\Z")
_NUMERIC = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)\Z")


@dataclass(frozen=True)
class Response:
    """An answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Streamed:
    """An answer whose body is still to come."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


def denied(host: str) -> Failure:
    """The failure for a caller; it does not say where a name leads: that would map the network."""
    return Failure(Code.EGRESS_DENIED, f"{host} is not an address that may be reached")


class Egress:
    """Calls of one process to the outside."""

    def __init__(
        self, allow: str = "", resolve: Resolver | None = None, trust: ssl.SSLContext | None = None, most: int = 100
    ) -> None:
        """`allow`: host or host:port, comma-separated, that may be reached although not public, by http as well."""
        self._allow = {entry.strip().lower() for entry in allow.split(",") if entry.strip()}
        self.allowed = allow  # what a child makes its own of
        self._resolve, self._trust, self._most = resolve or _system, trust, most
        self.connections = 0  # opened so far

    def parse(self, url: str) -> Target:
        """The parts of a URL. Raises invalid_value when it is none, egress_denied for what may never be reached."""
        if not url.isascii() or re.search(r"[\x00-\x20\x7f\\]", url):
            raise InvalidValue("the url has characters that must be escaped")
        try:
            parts = urlsplit(url)
            port, host = parts.port, (parts.hostname or "").removesuffix(".")
        except ValueError:
            raise InvalidValue("the url is not one") from None
        if parts.scheme not in ("https", "http") or not host:
            raise InvalidValue("the url must be https://host/...")
        if "@" in parts.netloc:
            raise InvalidValue("the url must not hold a password")
        literal = "[" in parts.netloc
        if literal != (":" in host) or (not literal and not _HOST.match(host)):
            raise InvalidValue("the url has no valid host")
        port = port or (443 if parts.scheme == "https" else 80)
        allowed = self.allows(host, port)
        # 127.1, 0x7f000001, 2130706433: forms that resolvers read as addresses and people do not.
        odd = not literal and _NUMERIC.match(host.rsplit(".", 1)[-1]) and not is_address(host)
        if not allowed and (parts.scheme != "https" or odd or (is_address(host) and not public(host))):
            raise denied(host)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Target(parts.scheme, host, port, path, allowed)

    def allows(self, host: str, port: int) -> bool:
        """Whether the operator has named it: it may be reached wherever it is."""
        return bool(self._allow & {host, f"{host}:{port}"})

    async def address(self, host: str, port: int) -> str:
        """Where another protocol than HTTP connects to. Raises invalid_value, egress_denied, unavailable."""
        try:
            return (await self._addresses(host, port, self.allows(host, port)))[0]
        except OSError:
            raise Unavailable(f"{host} has no address") from None

    async def check(self, url: str) -> None:
        """Raises egress_denied for a URL that may not be reached; a name that does not resolve yet may come later."""
        target = self.parse(url)
        with contextlib.suppress(OSError):
            await self._addresses(target.host, target.port, target.allowed)

    async def _addresses(self, host: str, port: int, allowed: bool) -> Sequence[str]:
        found = [host] if is_address(host) else await self._resolve(host, port)
        if not allowed and not all(public(address) for address in found):
            raise denied(host)
        return found

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        seconds: float = 15.0,
        most: int = 2**20,
    ) -> Response:
        """One call. Raises egress_denied, unavailable, deadline_exceeded, limit_exceeded (more than `most` bytes)."""
        try:
            async with asyncio.timeout(seconds), self.stream(method, url, headers, body) as answer:
                received = bytearray()
                async for chunk in answer.chunks:
                    received += chunk
                    if len(received) > most:
                        raise Failure(Code.LIMIT_EXCEEDED, f"the answer is larger than {most} bytes")
                return Response(answer.status, answer.headers, bytes(received))
        except TimeoutError:
            raise Failure(Code.DEADLINE_EXCEEDED, f"no answer within {seconds:g} s") from None

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> AsyncIterator[Streamed]:
        """One call whose answer is read piece by piece; the caller bounds its time and size."""
        import httpcore2

        target = self.parse(url)
        sent = {"user-agent": "aimass", "accept-encoding": "identity", **(headers or {}), "host": target.authority}
        place = httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        pairs = [(name.encode("ascii"), value.encode("ascii")) for name, value in sent.items()]
        if body or method in ("POST", "PUT", "PATCH"):
            pairs.append((b"content-length", str(len(body)).encode()))
        try:
            async with self._pool.stream(method, place, headers=pairs, content=body, extensions=_WAITS) as answer:
                names = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
                yield Streamed(answer.status, names, answer.aiter_stream())
        except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError, OSError):
            raise Unavailable(f"{target.host} cannot be reached") from None

    @cached_property
    def _pool(self) -> Any:
        import httpcore2

        trust = self._trust or ssl.create_default_context()
        return httpcore2.AsyncConnectionPool(trust, max_connections=self._most, network_backend=_checked(self))

    async def close(self) -> None:
        """Closes what is open."""
        if "_pool" in self.__dict__:
            await self._pool.aclose()


_WAITS = {"timeout": {"connect": 10.0, "pool": 10.0}}


def _checked(egress: Egress) -> Any:
    """A network backend that connects to checked addresses only."""
    import httpcore2

    class Checked(httpcore2.AnyIOBackend):
        async def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,
            local_address: Any = None,
            socket_options: Any = None,
        ) -> Any:
            allowed = egress.allows(host, port)
            address = (await egress._addresses(host, port, allowed))[0]
            stream = await super().connect_tcp(address, port, timeout, None, socket_options)
            egress.connections += 1
            peer = str((stream.get_extra_info("server_addr") or ("",))[0])
            if not same(peer, address) or not (allowed or public(peer)):
                await stream.aclose()
                raise denied(host)
            return stream

    return Checked()


async def _system(host: str, port: int) -> Sequence[str]:
    """The addresses that the system's resolver knows. Raises invalid_value for what is no name; OSError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise InvalidValue("a part of the host's name is empty, or has more than 63 characters") from None
    return [str(entry[4][0]) for entry in found]
