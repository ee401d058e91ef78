"""What real servers show before and after a renewal, with the files of deploy/init, and that no connection ends."""

import http.client
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from cryptography import x509
from redis import Redis
from redis.exceptions import NoPermissionError

from deploy import init, servers
from tests.support.house import until
from tests.support.server import free_ports
from tests.support.servers import Missing, Program, address, make

pytestmark = pytest.mark.far
# Kafka's ApiVersions, version 0, from a client without a name: anybody may ask.
_VERSIONS = (10).to_bytes(4) + (18).to_bytes(2) + bytes(2) + (7).to_bytes(4) + b"\xff\xff"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    init.make(tmp_path / "secrets", group=os.getgid())
    return tmp_path / "secrets"


@pytest.fixture
def asking(secrets: Path) -> servers.Asking:
    return servers.Asking(secrets / "probe/tls")


def started(program: Program) -> Program:
    try:
        return program.start()
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def redis(tmp_path: Path, secrets: Path) -> Iterator[int]:
    """The port where it speaks TLS; as deployed but for its place."""
    address("redis")  # skips where no far tests are wanted
    program, (port,), tls = make("redis", tmp_path / "redis"), free_ports(1), secrets / "redis/tls"
    files = {"cert-file": "cert.pem", "key-file": "key.pem", "ca-cert-file": "ca.pem"}
    options = [part for name, file in files.items() for part in (f"--tls-{name}", str(tls / file))]
    options += ["--tls-port", str(port), "--aclfile", str(secrets / "redis/users.acl")]
    program.command = [*program.command, *options]
    started(program)
    yield port
    program.stop()


@pytest.fixture
def s3(tmp_path: Path, secrets: Path) -> Iterator[Program]:
    address("s3")
    program, tls = make("s3", tmp_path / "s3"), secrets / "s3/tls"
    program.env |= {"VGW_CERT": str(tls / "cert.pem"), "VGW_KEY": str(tls / "key.pem"), "VGW_HEALTH": "/health"}
    yield started(program)
    program.stop()


@pytest.fixture
def kafka(tmp_path: Path, secrets: Path) -> Iterator[int]:
    """The port where it speaks TLS, by settings as deployed."""
    address("kafka")
    program, (port,), tls = make("kafka", tmp_path / "kafka"), free_ports(1), secrets / "kafka/tls"
    plain = int(program.address.rpartition(":")[2])
    settings = {
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},INSIDE://localhost:{port},CONTROLLER://127.0.0.1:{plain + 1}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},INSIDE://localhost:{port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,INSIDE:SSL",
        "ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(tls / "keystore.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(tls / "ca.pem"),
    }
    # The tool writes the broker's settings itself; ours come after them on the command line.
    more = " ".join(f"--override {name}={value}" for name, value in settings.items())
    (java := tmp_path / "bin/java").parent.mkdir()
    java.write_text(f'#!/bin/sh\ncase "$*" in *kafka.Kafka*) set -- "$@" {more} ;; esac\nexec {which("java")} "$@"\n')
    java.chmod(0o755)
    program.env |= {"PATH": f"{java.parent}:{os.environ['PATH']}"}
    started(program)
    yield port
    program.stop()


def client(port: int, secrets: Path, user: str, word: str) -> "Redis":
    tls = secrets / "probe/tls"
    files = {"ssl_ca_certs": tls / "ca.pem", "ssl_certfile": tls / "cert.pem", "ssl_keyfile": tls / "key.pem"}
    paths = {name: str(path) for name, path in files.items()}
    password = (secrets / "words" / word).read_text()
    return Redis(port=port, username=user, password=password, protocol=2, ssl=True, **paths)  # type: ignore[arg-type]


def open_line(service: "Redis") -> tuple[int, int]:
    """The one connection of a client, by the ports at its ends."""
    line: Any = service.connection_pool.get_connection()
    ends = line._sock.getsockname()[1], line._sock.getpeername()[1]
    service.connection_pool.release(line)
    return ends


def lying(secrets: Path, server: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((secrets / server / "tls/cert.pem").read_bytes())


def test_redis_takes_a_renewed_certificate_from_its_operator(redis: int, secrets: Path, asking: servers.Asking) -> None:
    tls, before = secrets / "redis/tls", asking.shown("redis", "localhost", redis)
    with client(redis, secrets, "registry", "redis_registry") as service:
        assert service.ping()
        kept = open_line(service)
        init.make(secrets, renew=True, group=os.getgid())
        files = ("tls-cert-file", str(tls / "cert.pem"), "tls-key-file", str(tls / "key.pem"))
        with client(redis, secrets, "operator", "redis_operator") as operator:
            operator.execute_command("CONFIG", "SET", *files)

        assert asking.shown("redis", "localhost", redis) == lying(secrets, "redis") != before
        assert service.ping()
        assert open_line(service) == kept


def test_a_service_may_not_change_redis(redis: int, secrets: Path) -> None:
    with client(redis, secrets, "registry", "redis_registry") as service, pytest.raises(NoPermissionError):
        service.execute_command("CONFIG", "SET", "maxmemory", "1mb")


async def test_kafka_takes_a_renewed_certificate_each_time_it_is_told(
    kafka: int, secrets: Path, asking: servers.Asking
) -> None:
    with (
        socket.create_connection(("localhost", kafka), 5) as plain,
        asking.context.wrap_socket(plain, server_hostname="kafka") as line,
    ):
        for _ in range(2):
            before = asking.shown("kafka", "localhost", kafka)
            init.make(secrets, renew=True, group=os.getgid())
            keystore = str(secrets / "kafka/tls/keystore.pem")
            servers.take(f"kafka+ssl://localhost:{kafka}", secrets / "probe/tls", keystore)
            await until(lambda: asking.shown("kafka", "localhost", kafka) == lying(secrets, "kafka"), 10)
            assert lying(secrets, "kafka") != before
            line.sendall(_VERSIONS)
            assert len(line.recv(4)) == 4
            line.recv(65536)


async def test_s3_takes_a_renewed_certificate_by_a_signal(s3: Program, secrets: Path, asking: servers.Asking) -> None:
    port = at(s3)
    line = http.client.HTTPSConnection("localhost", port, timeout=5, context=asking.context)
    assert healthy(line)
    kept = line.sock
    init.make(secrets, renew=True, group=os.getgid())
    assert s3.process
    s3.process.send_signal(signal.SIGHUP)
    await until(lambda: asking.shown("s3", "localhost", port) == lying(secrets, "s3"), 5)

    assert healthy(line)
    assert line.sock is kept
    line.close()


@pytest.mark.parametrize("path", ["/", "/far?list-type=2", "/far/blobs"])
def test_s3_answers_nobody_who_does_not_sign(path: str, s3: Program, asking: servers.Asking) -> None:
    line = http.client.HTTPSConnection("localhost", at(s3), timeout=5, context=asking.context)
    line.request("GET", path)

    assert line.getresponse().status == 403
    line.close()


def test_s3_speaks_tls_only(s3: Program) -> None:
    line = http.client.HTTPConnection("localhost", at(s3), timeout=5)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        healthy(line)
    line.close()


def at(s3: Program) -> int:
    return int(s3.address.partition("127.0.0.1:")[2].partition("&")[0])


def healthy(line: http.client.HTTPConnection) -> bool:
    line.request("GET", "/health")
    answer = line.getresponse()
    answer.read()
    return answer.status == 200
