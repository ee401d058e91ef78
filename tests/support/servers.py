"""Real servers for far tests: Kafka, PostgreSQL, Redis, S3 and Triton on the loopback, in folders of their own.

`python -m tests.far` starts them and says in AIMASS_TEST_* where they are; a test asks with `address`. Somebody else's
server does as well: set the variable. Several of a kind, with a space between, are for as many processes of tests.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.server import ROOT, free_ports

TOOLS = ROOT.parent / "shared" / "tools"
NAMES = ("kafka", "postgres", "redis", "s3", "triton")
USER, PASSWORD = "aimass", "far-tests-only"  # of servers that live as long as a test run, on the loopback


class Missing(Exception):
    """A server cannot be had here; the text says why."""


def redis_cache(url: str, **options: float) -> Any:
    """The cache on Redis. Imported here: suites that run near as well need no far adapter for that."""
    from services.kit.cache_redis import RedisCache

    return RedisCache(url, **options)  # type: ignore[arg-type]


def address(name: str) -> str:
    """Where a server is; a visible skip when nobody said so."""
    found = os.environ.get(f"AIMASS_TEST_{name.upper()}")
    if not found:
        pytest.skip(f"no {name}: make test-far starts one, or AIMASS_TEST_{name.upper()} names one")
    each, worker = found.split(), os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    return each[int(worker.removeprefix("gw")) % len(each)]


@dataclass
class Program:
    """A server process that a test may kill, freeze and start again. It keeps its folder and its port."""

    name: str
    command: Sequence[str]
    address: str
    folder: Path
    answers: Callable[[], bool]
    env: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    # Of a server with two doors: where the other one is, by what `address` calls it.
    doors: dict[str, str] = field(default_factory=dict)
    # The names of its shared memory.
    shared: str = ""
    process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float = 60) -> "Program":
        """Returns when it answers. Raises Missing when it does not."""
        with open(self.folder / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(
                self.command, env=os.environ | self.env, stdout=log, stderr=log, cwd=self.folder, user=self.user,
                group=self.user, extra_groups=[] if self.user else None, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + seconds
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise Missing(f"{self.name} did not start: {self.complaints()[-300:]}")
            time.sleep(0.05)
        return self

    def kill(self) -> None:
        """kill -9 of it and its children."""
        self._signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def stop(self, seconds: float = 30) -> None:
        """SIGTERM (to PostgreSQL: SIGINT, a fast stop), then kill -9."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT if self.name == "postgres" else signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        self.kill()

    def end(self) -> None:
        """For good and as soon as may be, in whatever state it is, with the shared memory that it had."""
        self.thaw()
        if self.name == "postgres":
            self.stop()  # nobody else knows the names of its segments
        self.kill()
        for left in Path("/dev/shm").glob(self.shared) if self.shared else ():
            left.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Stops it as a machine without processor time would; `thaw` ends it."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def complaints(self) -> str:
        return (self.folder / f"{self.name}.log").read_text(errors="replace")[-4000:]

    def _signal(self, what: int) -> None:
        if not self.process:
            return
        # PostgreSQL gives each of its processes a group of its own.
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.send_signal(what)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, what)


def make(name: str, folder: Path) -> Program:
    """A server in an empty folder, not started yet. Raises Missing when its program is not here."""
    folder.mkdir(parents=True, exist_ok=True)
    program: Program = {"kafka": _kafka, "postgres": _postgres, "redis": _redis, "s3": _s3, "triton": _triton}[name](
        folder
    )
    return program


def _tool(*arguments: str) -> list[str]:
    if not (TOOLS / "servers").exists():
        raise Missing(f"{arguments[0]}: ../shared/tools/servers is not here")
    _install(arguments[0])
    return [str(TOOLS / "servers"), *arguments]


def _install(part: str) -> None:
    done = subprocess.run([str(TOOLS / "servers"), "install", part], capture_output=True, check=False, timeout=600)
    if done.returncode:
        raise Missing(f"{part} cannot be installed: {done.stderr.decode(errors='replace')[-300:]}")


def _kafka(folder: Path) -> Program:
    port = _pair()
    command = _tool("kafka", str(folder / "kafka"), str(port))
    return Program("kafka", command, f"127.0.0.1:{port}", folder, lambda: _listens(port))


def _pair() -> int:
    """A port whose successor is free as well: the broker's controller takes it."""
    while True:
        (port,) = free_ports(1)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port + 1))
            return port


def _redis(folder: Path) -> Program:
    if not shutil.which("redis-server") and (TOOLS / "servers").exists():
        _install("apt")
    if not (program := shutil.which("redis-server")):
        raise Missing("redis: redis-server is not installed")
    (port,) = free_ports(1)
    # Values survive a restart, as the volume of the compose file makes them.
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--appendonly", "yes"]
    return Program("redis", command, f"redis://127.0.0.1:{port}/0", folder, lambda: _redis_answers(port))


def _redis_answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5) as connection:
        connection.settimeout(1)
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith(b"+PONG")
    return False


def _postgres(folder: Path) -> Program:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found and (TOOLS / "servers").exists():
        _install("apt")
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        raise Missing("postgres: no /usr/lib/postgresql/*/bin")
    user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
    data, word, (port,) = folder / "postgres", folder / "postgres.word", free_ports(1)
    word.write_text(PASSWORD)
    word.chmod(0o644)
    if user:
        for path in (folder, *folder.parents):
            if path.stat().st_uid == 0 and not path.stat().st_mode & 0o005 and path != Path("/"):
                path.chmod(path.stat().st_mode | 0o011)
        shutil.chown(folder, user, user)
    subprocess.run(
        [found[-1] / "initdb", "-D", data, "-U", USER, f"--pwfile={word}", "-A", "scram-sha-256", "-E", "UTF8"],
        check=True, stdout=subprocess.DEVNULL, user=user, group=user, extra_groups=[] if user else None, cwd=folder,
    )  # fmt: skip
    command = [str(found[-1] / "postgres"), "-D", str(data), "-p", str(port), "-k", "", "-c", "max_connections=300"]
    # What a killed server must keep, the system has; that a disk has it as well would matter without power only.
    command += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    where = f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres"
    return Program("postgres", command, where, folder, lambda: _postgres_answers(where), user=user)


def _postgres_answers(where: str) -> bool:
    import psycopg

    try:
        psycopg.connect(where.replace("+psycopg", ""), connect_timeout=1).close()
    except psycopg.OperationalError:
        return False
    return True


def database(where: str) -> str:
    """The URL of a new, empty database on the server that an address names, as a role that owns it and nothing else."""
    import psycopg

    made = f"t{secrets.token_hex(8)}"
    with psycopg.connect(where.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {made} LOGIN PASSWORD '{made}' NOSUPERUSER".encode())
        connection.execute(f"CREATE DATABASE {made} OWNER {made}".encode())
    return f"postgresql+psycopg://{made}:{made}@{where.rpartition('@')[2].rpartition('/')[0]}/{made}"


def _s3(folder: Path) -> Program:
    (port,) = free_ports(1)
    (folder / "s3" / "far").mkdir(parents=True)  # a folder is a bucket
    command = _tool("s3", str(folder / "s3"), str(port))
    keys = {"ROOT_ACCESS_KEY": USER, "ROOT_SECRET_KEY": PASSWORD}
    where = f"s3://far?endpoint=http://127.0.0.1:{port}&region=us-east-1"
    return Program("s3", command, where, folder, lambda: _listens(port), env=keys)


def _triton(folder: Path) -> Program:
    http, grpc, metrics = free_ports(3)
    (folder / "models").mkdir()
    command = _tool("triton", str(folder / "models"), str(http), str(grpc), str(metrics), "--log-error=true")
    # Two servers of one machine must not share the names of their shared memory.
    region = f"far{http}-"
    command += [f"--backend-config=python,shm-region-prefix-name={region}"]
    program = Program("triton", command, f"127.0.0.1:{grpc}", folder, lambda: _triton_answers(http))
    program.doors, program.shared = {"triton_http": f"127.0.0.1:{http}"}, f"{region}*"
    return program


def _triton_answers(http: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/v2/health/ready", timeout=1) as answer:
            return int(answer.status) == 200
    except OSError:
        return False


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
        return True
    return False
