"""Addresses of the internet: which of them are everybody's."""

import ipaddress
from dataclasses import dataclass

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST = ipaddress.IPv6Network("2000::/3")
_NEVER = [ipaddress.IPv4Network(text) for text in ("192.0.0.0/24", "192.88.99.0/24", "100.64.0.0/10", "198.18.0.0/15")]


@dataclass(frozen=True)
class Target:
    """A checked URL, in parts: what is connected to is what was checked, not a second reading of the text."""

    scheme: str
    host: str
    port: int
    path: str
    allowed: bool  # by the operator, wherever it is

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"https": 443, "http": 80}[self.scheme] else f"{host}:{self.port}"


def public(address: str) -> bool:
    """Whether an address is one of the open internet, also behind the ways IPv6 has of naming an IPv4 address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return found.is_global and not found.is_multicast and not any(found in network for network in _NEVER)
    inner = _embedded(found)
    if inner is not None:
        return found in _NAT64 and public(str(inner))  # the other ways are for tunnels, which no receiver needs
    return found in _UNICAST and found.is_global and not found.is_multicast and not found.scope_id


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    low = int(address) & 0xFFFFFFFF
    if address in _NAT64 or int(address) >> 32 & 0xFDFFFFFF == 0x5EFE:  # NAT64, ISATAP
        return ipaddress.IPv4Address(low)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def same(peer: str, address: str) -> bool:
    """Whether two texts name one address."""
    try:
        return ipaddress.ip_address(peer) == ipaddress.ip_address(address)
    except ValueError:
        return False


def is_address(host: str) -> bool:
    """Whether a host is an address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
