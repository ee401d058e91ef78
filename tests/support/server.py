"""Services in processes of their own: started, asked, killed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from aimass import Client
from services import SERVICES
from tests.support.prepared import prepare

ROOT = Path(__file__).parents[2]


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody has."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@dataclass
class Server:
    """One installation in one process or in several, as a user would start it."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)
    alone: Sequence[str] = ()  # services that have a process of their own
    root: Path = ROOT  # the checkout whose services run
    module: str = "services"  # that runs them
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ports: list[int] = field(default_factory=lambda: free_ports(12))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.ports[1]}"

    @property
    def key(self) -> str:
        return (self.home / "admin-key").read_text().strip()

    def client(self, key: str = "", **options: Any) -> Client:
        return Client(self.url, key or self.key, timeout=60, **options)

    def start(self, seconds: float = 30) -> "Server":
        """Starts the processes and waits until the gateway is ready."""
        for names in self._layout():
            self._launch(names)
        deadline = time.monotonic() + seconds
        while not self.ready():
            ended = [process for process in self.processes if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the services did not start:\n{self.complaints()}")
            time.sleep(0.02)
        return self

    def _layout(self) -> list[Sequence[str]]:
        return [*((name,) for name in self.alone), [name for name in SERVICES if name not in self.alone]]

    def _launch(self, names: Sequence[str]) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("AIMASS_")}
        env = kept | {"AIMASS_HOME": str(self.home), "AIMASS_GATEWAY_HTTP_PORT": str(self.ports[0])}
        env |= {
            "AIMASS_GATEWAY_GRPC_PORT": str(self.ports[1]),
            "AIMASS_DISK_PERCENT": "100",  # however full the disk is that the tests run on
            "PYTHONPATH": os.pathsep.join([str(self.root), str(self.root / "sdk")]),
        }
        if self.alone:
            env |= self._apart(names)
        self.home.mkdir(parents=True, exist_ok=True)
        if self.root == ROOT:  # another one has migrations of its own
            prepare(self.home, *SERVICES, "bus")
        with open(self.home.with_suffix(".err"), "ab") as errors:
            command = [sys.executable, "-m", self.module, *(names if self.alone else ())]
            process = subprocess.Popen(
                command, env=env | self.env, stdout=errors, stderr=errors, cwd=self.root, start_new_session=True
            )
        self.processes.append(process)

    def _apart(self, names: Sequence[str]) -> dict[str, str]:
        """Services alone, without the bus; the rest together, with it."""
        listen = {name: f"127.0.0.1:{port}" for name, port in zip(SERVICES, self.ports[3:], strict=False)}
        alone = names[0] in self.alone
        elsewhere = [f"{name}={address}" for name, address in listen.items() if name not in names]
        bus = f"127.0.0.1:{self.ports[2]}"
        env = {"AIMASS_DISCOVERY_URL": "static:" + ",".join(elsewhere)}
        env |= {"AIMASS_BUS_URL": f"grpc://{bus}"} if alone else {"AIMASS_BUS_LISTEN": bus}
        return env | {f"AIMASS_{name.upper()}_LISTEN": listen[name] for name in names}

    def ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.ports[0]), 0.2) as connection:
                connection.settimeout(2)
                connection.sendall(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return b" 200 " in connection.recv(64)
        except OSError:
            return False

    def kill(self) -> None:
        """kill -9, at once, all processes."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.clear()

    def stop(self, seconds: float = 30) -> list[int]:
        """SIGTERM; the exit statuses."""
        for process in self.processes:
            process.terminate()
        found = [process.wait(seconds) for process in self.processes]
        self.processes.clear()
        return found

    def complaints(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self.home.with_suffix(".err").read_text()[-4000:]
        return ""

    def doors(self) -> dict[str, Any]:
        return dict(orjson.loads((self.home / "doors.json").read_bytes()))


def layout() -> str:
    """What this run walks through: `far`, services on real servers, or `compose`, containers; empty: processes."""
    return os.environ.get("AIMASS_TEST_LAYOUT", "")


def far() -> bool:
    """Whether this run walks through services on real servers: `make test-far` does, after all else."""
    return layout() == "far"


@contextlib.contextmanager
def serving(home: Path, alone: Sequence[str] = (), root: Path = ROOT, **env: str) -> Iterator[Any]:
    """An installation that is there for a block and leaves no process behind: a Server, a Fleet or a Stack."""
    if layout() == "compose":
        from tests.support.containers import stack

        with stack(home.parent, **env) as stacked:
            yield stacked
        return
    if far():
        from tests.support.fleet import fleet

        with fleet(home, settings=env) as there:
            yield there
        return
    server = Server(home, env, alone, root)
    try:
        yield server.start()
    finally:
        server.kill()
