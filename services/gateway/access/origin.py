"""The origin of a call: the address and the client certificate of its connection."""

import ssl
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple


def _none() -> bytes:
    return b""


class Origin(NamedTuple):
    """The other end of a connection."""

    address: str = ""
    # The certificate that it proved to have, as DER, when that is asked for; empty for none.
    certificate: Callable[[], bytes] = _none

    def proves(self, subjects: tuple[str, ...], now: datetime) -> bool:
        """Whether its certificate has one of some subjects, and is valid now."""
        if not (content := self.certificate()):
            return False
        found = _read(content)
        return found.begins <= now < found.ends and not found.names.isdisjoint(subjects)


class _Shown(NamedTuple):
    names: frozenset[str]
    begins: datetime
    ends: datetime


def called(context: Any) -> bytes:
    """The client certificate of a gRPC call, as DER."""
    found = context.auth_context().get("x509_pem_cert")
    return ssl.PEM_cert_to_DER_cert(next(iter(found)).decode()) if found else b""


@lru_cache(maxsize=1000)
def _read(content: bytes) -> _Shown:
    """The names and the validity of a certificate; the TLS handshake has verified its authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    found = x509.load_der_x509_certificate(content)
    names = {f"sha256:{found.fingerprint(SHA256()).hex()}"}
    try:
        alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        alternatives = None
    if alternatives is not None:
        names |= {f"uri:{name}" for name in alternatives.get_values_for_type(x509.UniformResourceIdentifier)}
        names |= {f"dns:{name.lower()}" for name in alternatives.get_values_for_type(x509.DNSName)}
        names |= {f"email:{name}" for name in alternatives.get_values_for_type(x509.RFC822Name)}
    return _Shown(frozenset(names), found.not_valid_before_utc, found.not_valid_after_utc)
