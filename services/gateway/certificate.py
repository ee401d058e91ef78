"""The certificate of the public doors, read again when its files change."""

import logging
import ssl
from pathlib import Path
from typing import Any

import grpc

from services.kit.config import ConfigError

log = logging.getLogger(__name__)
_Pems = tuple[bytes, bytes, bytes]  # key, certificate, authorities of clients


class Certificate:
    """A certificate file (with its chain) and a key file, for both doors; and whose certificates clients may show."""

    def __init__(self, certificate: Path, key: Path, clients: Path | None = None) -> None:
        """`clients` has the authorities of client certificates. Raises ConfigError for files that cannot be used."""
        self._files, self._clients = (certificate, key), clients
        self._stamp = self._stamps()
        try:
            self._context, self._pems = self._load()
        except (OSError, ssl.SSLError) as error:
            names = "_TLS_KEY, _CLIENT_CA" if clients else "_TLS_KEY"
            raise ConfigError(f"AIMASS_GATEWAY_TLS_CERT, {names}: {_reason(error)}") from None

    def context(self) -> ssl.SSLContext:
        """For the HTTP door. Each handshake takes the files as they are."""
        asked = _context(self._clients)
        asked.load_cert_chain(*self._files, password=_none)

        def choose(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
            self._look()
            connection.context = self._context

        asked.sni_callback = choose
        return asked

    def credentials(self, certified: bool = False) -> grpc.ServerCredentials:
        """For the gRPC door, likewise. gRPC asks for certificates of all clients (`certified`) or of none."""
        shown = self._pems

        def fetch() -> Any:
            nonlocal shown
            self._look()
            if shown == self._pems:
                return None
            shown = self._pems
            return _shown(shown, certified)

        return grpc.dynamic_ssl_server_credentials(
            _shown(shown, certified), fetch, require_client_authentication=certified
        )

    def _look(self) -> None:
        if (stamp := self._stamps()) == self._stamp:
            return
        try:
            self._context, self._pems = self._load()
        except (OSError, ssl.SSLError) as error:
            # One file after the other is replaced: what does not fit now may fit at the next connection.
            log.warning("the public certificate is not loaded: %s", _reason(error))
            return
        self._stamp = stamp
        log.info("the public certificate is loaded from %s", self._files[0])

    def _load(self) -> tuple[ssl.SSLContext, _Pems]:
        certificate, key = self._files
        pems = (key.read_bytes(), certificate.read_bytes(), self._clients.read_bytes() if self._clients else b"")
        context = _context(self._clients)
        context.load_cert_chain(certificate, key, password=_none)
        return context, pems

    def _stamps(self) -> Any:
        try:
            stats = [file.stat() for file in (*self._files, self._clients) if file]
        except OSError:
            return None
        return [(stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats]


def _context(clients: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if clients:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(clients)
        # A resumed session would bring a client certificate that is not verified again.
        context.num_tickets, context.options = 0, context.options | ssl.OP_NO_TICKET
    return context


def _none() -> str:
    """A key that wants a password is refused, where OpenSSL would ask for one on the terminal."""
    return ""


def _shown(pems: _Pems, certified: bool) -> Any:
    key, certificate, clients = pems
    return grpc.ssl_server_certificate_configuration([(key, certificate)], clients if certified else None)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"certificate and key do not fit: {(error.reason or 'no certificate').lower().replace('_', ' ')}"
    return f"{error.filename} cannot be read: {(error.strerror or '').lower()}"
