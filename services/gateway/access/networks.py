"""Addresses of callers, and the networks that a key may be bound to."""

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import unquote

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
ALL = ("0.0.0.0/0", "::/0")


def host(peer: str) -> str:
    """The address in gRPC's name of the other end: `ipv4:10.0.0.1:5000`, `ipv6:%5B::1%5D:5000`."""
    kind, _, rest = peer.partition(":")
    return unquote(rest).rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer


def check(text: str) -> None:
    """Raises ValueError for what is neither an address nor a network."""
    if "%" in text:
        raise ValueError("a zone is known on one machine only")
    _network(text)


@lru_cache(maxsize=10_000)
def inside(networks: tuple[str, ...], address: str) -> bool:
    """Whether an address is in one of some networks; what is no address is in none."""
    try:
        found = _plain(ipaddress.ip_address(address))
    except ValueError:
        return False
    return any(found in _network(text) for text in networks)


def within(inner: Iterable[str], outer: Sequence[str]) -> str:
    """The first of some networks that is not within one of others; empty if all are."""
    around = [_network(text) for text in outer]
    for text in inner:
        found = _network(text)
        if not any(found.version == one.version and found.subnet_of(one) for one in around):  # type: ignore[arg-type]
            return text
    return ""


def _plain(address: _Address) -> _Address:
    """An IPv4 address in place of its IPv4-mapped IPv6 address, as dual-stack sockets give it."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


@lru_cache(maxsize=10_000)
def _network(text: str) -> _Network:
    return ipaddress.ip_network(text)
