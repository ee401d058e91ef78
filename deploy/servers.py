"""Checks the certificates of a stack's servers: `python -m deploy.servers kafka redis`. Kafka reloads its own first.

Files: ca.pem, cert.pem and key.pem of the client in /run/aimass/tls, and the expected certificate of each server as
/run/certificates/<server>.pem. deploy/renew runs it in a container on the servers' network.
"""

import contextlib
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from services.kit.bus_kafka.cluster import Cluster

PORTS = {"kafka": 9092, "postgres": 5432, "redis": 6379, "s3": 7070, "triton": 8001}
KEYSTORE = "listener.name.inside.ssl.keystore.location"
_LIES = "/run/aimass/tls/keystore.pem"  # in the container of the broker
_ASKED = 10_000  # milliseconds
_SECONDS = 5.0
_PAUSE = 0.5
_POSTGRES = (8).to_bytes(4) + (80877103).to_bytes(4)  # SSLRequest: it begins in the clear


class Asking:
    """The client of the check: a certificate of the authority, and the authority itself."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError for missing or invalid files."""
        self.context = ssl.create_default_context(cafile=folder / "ca.pem")
        self.context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    def shown(self, server: str, host: str, port: int) -> x509.Certificate:
        """The certificate of a server. Raises OSError if it has none, or none of its name."""
        with socket.create_connection((host, port), _SECONDS) as plain:
            if server == "postgres":
                plain.sendall(_POSTGRES)
                if plain.recv(1) != b"S":
                    raise OSError("it does not support TLS")
            self.context.set_alpn_protocols(["h2"] if server == "triton" else [])
            with self.context.wrap_socket(plain, server_hostname=server) as line:
                return x509.load_der_x509_certificate(line.getpeercert(True) or b"")


def take(url: str, folder: Path, keystore: str = _LIES) -> None:
    """Tells each broker of a kafka+ssl:// URL to reload its keystore. Raises KafkaError."""
    admin = Cluster(url, folder).client(KafkaAdminClient, request_timeout_ms=_ASKED)
    with contextlib.closing(admin):
        for broker in admin.describe_cluster()["brokers"]:
            name = str(broker["broker_id"])
            asked = ConfigResource(ConfigResourceType.BROKER, name, {KEYSTORE: keystore})
            answer = admin.alter_configs([asked], raise_on_unknown=False)["broker"][name]
            if answer != "OK":
                raise KafkaError(f"broker {name} does not load {keystore}: {answer}")


def wrong(asking: Asking, server: str, expected: x509.Certificate, seconds: float) -> str:
    """What is wrong with the certificate of a server after some seconds; empty if it is the expected one."""
    until = time.monotonic() + seconds
    while True:
        try:
            found = asking.shown(server, server, PORTS[server])
            problem = "" if found == expected else f"it presents {found.serial_number:x}"
        except OSError as error:
            problem = str(error).lower()
        if not problem or time.monotonic() > until:
            return problem
        time.sleep(_PAUSE)


def main(
    servers: Annotated[list[str], typer.Argument(help=f"The servers: {', '.join(PORTS)}.")],
    seconds: Annotated[float, typer.Option(help="Seconds that the servers may take to reload.")] = 10.0,
    tls: Annotated[Path, typer.Option(help="Folder with ca.pem, cert.pem and key.pem of the client.")] = Path(
        "/run/aimass/tls"
    ),
    certificates: Annotated[Path, typer.Option(help="Folder with the expected certificates, <server>.pem.")] = Path(
        "/run/certificates"
    ),
) -> None:
    """Print the certificate of each server. Exit code 1 if one presents another than it should."""
    asking, late = Asking(tls), False
    if "kafka" in servers:
        try:
            take(f"kafka+ssl://kafka:{PORTS['kafka']}", tls)
        except KafkaError as error:
            print(f"kafka: {error}", file=sys.stderr)
    for server in servers:
        expected = x509.load_pem_x509_certificate((certificates / f"{server}.pem").read_bytes())
        problem = wrong(asking, server, expected, seconds)
        late |= bool(problem)
        wanted = f"{expected.serial_number:x} until {expected.not_valid_after_utc:%Y-%m-%d}"
        print(f"{server}: {wanted}" + (f" is not shown: {problem}" if problem else ""), flush=True)
    raise typer.Exit(int(late))


if __name__ == "__main__":
    typer.run(main)
