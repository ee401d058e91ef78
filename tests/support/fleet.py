"""The whole system on real servers, a process for each service, as containers run it: started, killed, renewed.

Each process has a home of its own; what they share they share by servers and by the folder of keys.
"""

import base64
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aimass import Client
from services import SERVICES
from services.kit.probe import probe
from tests.support.server import ROOT, free_ports
from tests.support.servers import NAMES, PASSWORD, USER, Program, database, make


@dataclass
class Unit:
    """One process of one service, on ports of its own that it keeps."""

    service: str
    number: int
    home: Path
    env: dict[str, str]
    listen: int
    observe: int
    http: int = 0
    grpc: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return f"{self.service}-{self.number}"

    def start(self) -> "Unit":
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIMASS_", "OTEL_"))}
        kept["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "sdk")])
        with open(self.home.with_suffix(".err"), "ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services", self.service],
                env=kept | self.env, stdout=errors, stderr=errors, cwd=ROOT, start_new_session=True,
            )  # fmt: skip
        return self

    def ready(self) -> bool:
        return probe(f"127.0.0.1:{self.observe}")

    def wait(self, seconds: float = 60) -> float:
        """Seconds until it was ready."""
        began = time.monotonic()
        while not self.ready():
            ended = self.process is None or self.process.poll() is not None
            if ended or time.monotonic() - began > seconds:
                raise AssertionError(f"{self.name} is not ready:\n{self.complaints()}")
            time.sleep(0.02)
        return time.monotonic() - began

    def kill(self) -> None:
        """kill -9, with its children."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def stop(self, seconds: float = 60) -> int:
        """SIGTERM; the exit status."""
        assert self.process
        self.process.terminate()
        return self.process.wait(seconds)

    def complaints(self) -> str:
        return self.home.with_suffix(".err").read_text(errors="replace")[-4000:]


@dataclass
class Fleet:
    """Servers and units. `settings` are for every unit; the first gateway lives in `home`.

    `synced`: PostgreSQL waits for its disk, as it does where something is measured.
    """

    folder: Path
    home: Path
    settings: dict[str, str] = field(default_factory=dict)
    synced: bool = False
    servers: dict[str, Program] = field(default_factory=dict)
    units: list[Unit] = field(default_factory=list)
    urls: dict[str, str] = field(default_factory=dict)
    secret: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(32)).decode(), repr=False)

    def start_servers(self, names: Sequence[str] = NAMES) -> "Fleet":
        """Raises Missing when one cannot be had."""
        for name in names:
            program = make(name, self.folder / name)
            if self.synced and name == "postgres":
                program.command = [*program.command, "-c", "fsync=on"]
            self.servers[name] = program.start(180)
        where = self.servers["postgres"].address
        self.urls = {service: database(where) for service in SERVICES}
        return self

    def _far(self) -> dict[str, str]:
        at = {name: server.address for name, server in self.servers.items()}
        env = {"AIMASS_BUS_URL": f"kafka://{at['kafka']}?partitions=4"} if "kafka" in at else {}
        if "redis" in at:
            env |= {"AIMASS_CACHE_URL": at["redis"], "AIMASS_DISCOVERY_URL": at["redis"]}
        if "s3" in at:
            env |= {"AIMASS_BLOBS_URL": at["s3"], "AIMASS_BLOBS_ACCESS_KEY": USER, "AIMASS_BLOBS_SECRET_KEY": PASSWORD}
            env["AIMASS_SECRETS_KEY"] = self.secret  # what lies in a bucket is sealed, as it is in containers
        if "triton" in at:
            env |= {"AIMASS_INFERENCE_ENGINE": f"triton://{at['triton']}"}
        return env

    def unit(self, service: str, **env: str) -> Unit:
        """One more process of a service, not started yet."""
        number = sum(unit.service == service for unit in self.units)
        listen, observe, http, grpc = free_ports(4)
        home = self.folder / f"{service}-{number}" if service != "gateway" or number else self.home
        upper = service.upper()
        own = {
            "AIMASS_HOME": str(home),
            "AIMASS_KEYS_DIR": str(self.folder / "keys"),
            f"AIMASS_{upper}_LISTEN": f"127.0.0.1:{listen}",
            f"AIMASS_{upper}_DATABASE_URL": self.urls[service],
            "AIMASS_OBSERVE_LISTEN": f"127.0.0.1:{observe}",
            "AIMASS_DISK_PERCENT": "100",  # however full the disk is that the tests run on
        }
        if service == "gateway":
            own |= {"AIMASS_GATEWAY_HTTP_PORT": str(http), "AIMASS_GATEWAY_GRPC_PORT": str(grpc)}
        unit = Unit(service, number, home, self._far() | own | self.settings | env, listen, observe, http, grpc)
        self.units.append(unit)
        return unit

    def everything(self) -> dict[str, str]:
        """The settings of a program that sees what all units keep, beside the log centre's files."""
        urls = {f"AIMASS_{service.upper()}_DATABASE_URL": url for service, url in self.urls.items()}
        return self._far() | urls | self.settings | {"AIMASS_HOME": str(self.folder / "logs-0")}

    def man(self, **counts: int) -> "Fleet":
        """One unit of each service, or as many as are asked for."""
        (self.folder / "keys").mkdir(exist_ok=True, mode=0o700)
        for service in SERVICES:
            for _ in range(counts.get(service, 1)):
                self.unit(service)
        return self

    def of(self, service: str) -> list[Unit]:
        return [unit for unit in self.units if unit.service == service]

    # What a `Server` of one process has as well, so that journeys need not know which one they walk through.

    @property
    def url(self) -> str:
        host, port = self.doors[0]
        return f"http://{host}:{port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.of('gateway')[0].grpc}"

    @property
    def key(self) -> str:
        return (self.home / "admin-key").read_text().strip()

    @property
    def doors(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", unit.http) for unit in self.of("gateway")]

    def client(self, key: str = "", **options: Any) -> Client:
        return Client(self.url, key or self.key, timeout=60, **options)

    def kill(self) -> None:
        """kill -9 of every service; the servers stay."""
        for unit in self.units:
            unit.kill()

    def start(self) -> "Fleet":
        """Starts every unit again; returns when all are ready."""
        for unit in self.units:
            unit.start()
        for unit in self.units:
            unit.wait()
        return self

    def stop(self) -> None:
        """Leaves no process behind."""
        self.kill()
        for server in reversed(self.servers.values()):
            server.end()


@contextlib.contextmanager
def fleet(
    home: Path,
    servers: Sequence[str] = NAMES,
    settings: dict[str, str] | None = None,
    synced: bool = False,
    **counts: int,
) -> Iterator[Fleet]:
    """A fleet that is there for a block. Raises Missing when a server cannot be had."""
    made = Fleet(home.with_name(f"{home.name}-fleet"), home, settings or {}, synced)
    try:
        yield made.start_servers(servers).man(**counts).start()
    finally:
        made.stop()


class Loading:
    """A load under way: `stop` ends it and gives its history."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "sdk")])}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.far.load"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, cwd=ROOT, text=True,
        )  # fmt: skip
        assert self._process.stdin
        self._process.stdin.write(json.dumps(plan) + "\n")
        self._process.stdin.flush()

    def stop(self, seconds: float = 150) -> list[dict[str, Any]]:
        """What was sent and what came of it."""
        from tests.far.load import read

        self._process.communicate("stop\n", timeout=seconds)
        assert self._process.returncode == 0
        return list(read(self._plan["history"]))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
