"""TLS between processes: the certificate of this process, and the authority that it trusts (RELIABILITY section 5).

A certificate names services: `spiffe://aimass/<service>`, and the same as DNS name. Files that change are loaded
without a restart, for new connections; while they are incomplete, those loaded last are used.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from services.kit.config import ConfigError
from services.kit.errors import Unauthenticated

log = logging.getLogger(__name__)
TRUST = "spiffe://aimass/"
_LOOK = 1.0  # seconds between two checks of the files
_FILES = ("ca.pem", "cert.pem", "key.pem")
_PEERS = 1000
Option = tuple[str, Any]


class Material(NamedTuple):
    """The content of the files at one time."""

    authority: bytes
    certificate: bytes
    key: bytes
    authorities: tuple[x509.Certificate, ...]
    names: frozenset[str]


class Credentials:
    """The files ca.pem, cert.pem and key.pem of a folder. While one authority replaces another, ca.pem has both."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError for invalid files."""
        self._folder, self._lock = folder, threading.Lock()  # gRPC asks in a thread of its own
        self._stamp, self._bad, self._looked = self._stamps(), (), time.monotonic()
        self._generation = 1
        try:
            self._material = _read(folder)
        except (OSError, ValueError) as error:
            raise ConfigError(f"AIMASS_TLS_DIR: {error}") from None
        self._peers: dict[bytes, tuple[frozenset[str], datetime]] = {}

    @property
    def names(self) -> frozenset[str]:
        """The services that the certificate names."""
        return self._material.names

    def material(self) -> Material:
        """The content for a new connection. Thread-safe."""
        if time.monotonic() - self._looked >= _LOOK:
            self._look()
        return self._material

    def server(self) -> grpc.ServerCredentials:
        """For a gRPC server: clients need a certificate of the authority. Each handshake uses the present files."""
        shown = self._generation

        def fetch() -> Any:
            nonlocal shown
            self._look()
            if shown == self._generation:
                return None
            shown = self._generation
            return _shown(self._material)

        return grpc.dynamic_ssl_server_credentials(_shown(self._material), fetch, require_client_authentication=True)

    def channel(self, service: str) -> tuple[grpc.ChannelCredentials, list[Option]]:
        """For a channel to a service: the server needs a certificate for this service, whatever its address."""
        material = self._material
        credentials = grpc.ssl_channel_credentials(material.authority, material.key, material.certificate)
        return credentials, [("grpc.ssl_target_name_override", service)]

    async def watch(self, changed: Callable[[], None]) -> None:
        """Checks the files once a second, and calls back when channels need new credentials."""
        seen = self._generation
        while True:
            await asyncio.sleep(_LOOK)
            self._look()
            if seen != self._generation:
                seen = self._generation
                changed()

    def peer(self, context: Mapping[str, Sequence[bytes]]) -> frozenset[str]:
        """The services that a caller may be, by the authentication context of its connection.

        Checked at each call, since a connection may outlive its certificate and the authority. Raises unauthenticated.
        """
        pem = next(iter(context.get("x509_pem_cert", ())), b"")
        if time.monotonic() - self._looked >= _LOOK:
            self._look()
        if (known := self._peers.get(pem)) is None:
            known = self._check(pem)
            if len(self._peers) >= _PEERS:
                self._peers.clear()
            self._peers[pem] = known
        if known[1] <= datetime.now(UTC):
            raise Unauthenticated("the caller's certificate is not valid")
        return known[0]

    def _check(self, pem: bytes) -> tuple[frozenset[str], datetime]:
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            if any(_issued(certificate, authority) for authority in self._material.authorities):
                return _names(certificate), certificate.not_valid_after_utc
        except ValueError:
            pass
        raise Unauthenticated("the caller's certificate is not valid")

    def _stamps(self) -> tuple[Any, ...]:
        try:
            stats = [(self._folder / name).stat() for name in _FILES]
        except OSError:
            return ()
        return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)

    def _look(self) -> None:
        with self._lock:
            self._looked, stamp = time.monotonic(), self._stamps()
            if stamp == self._stamp:
                return
            try:
                material = _read(self._folder)
            except (OSError, ValueError) as error:
                # The files are replaced one after the other: they may fit together at the next check.
                if stamp == self._bad:
                    log.warning("the certificates are not loaded: %s", error)
                self._bad = stamp
                return
            self._stamp, self._material = stamp, material
            self._peers, self._generation = {}, self._generation + 1
            log.info("certificates loaded from %s", self._folder)


def _read(folder: Path) -> Material:
    authority, certificate, key = ((folder / name).read_bytes() for name in _FILES)
    own = x509.load_pem_x509_certificate(certificate)
    try:
        opened = load_pem_private_key(key, None)
    except TypeError:
        raise ValueError(f"key.pem in {folder} must have no password") from None
    if own.public_key() != opened.public_key():
        raise ValueError(f"cert.pem and key.pem in {folder} do not belong together")
    names = _names(own)
    if not names:
        raise ValueError(f"cert.pem in {folder} names no service: it needs {TRUST}<service>")
    return Material(authority, certificate, key, tuple(x509.load_pem_x509_certificates(authority)), names)


def _shown(material: Material) -> Any:
    return grpc.ssl_server_certificate_configuration([(material.key, material.certificate)], material.authority)


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    uris = alternatives.get_values_for_type(x509.UniformResourceIdentifier)
    return frozenset(uri.removeprefix(TRUST) for uri in uris if uri.startswith(TRUST))
