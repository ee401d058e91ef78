"""The stack of deploy/compose.yaml as a project of its own: ports, secrets, volumes, files that nobody else has."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from aimass import Client
from services import SERVICES
from tests.support.server import ROOT, free_ports

HOST = "host.docker.internal"  # what containers call this machine
_LOG = "/var/lib/aimass/logs/access.log"
# Kills what the container runs, as a crash would: the engine then does what its restart policy says.
_CRASH = "kill -9 $(cat /proc/1/task/1/children)"


@dataclass
class Stack:
    """Containers. `settings` are AIMASS_* variables; one of a service's own goes to that service only."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    project: str = field(default_factory=lambda: f"aimass-test-{uuid4().hex[:8]}")
    ports: list[int] = field(default_factory=lambda: free_ports(2))
    files: Path | None = None  # what the data service may read; `folder` if nothing is said

    def note(self) -> str:
        """What another process needs to know of it: for AIMASS_TEST_STACK."""
        return json.dumps({"folder": str(self.folder), "project": self.project, "ports": self.ports})

    def compose(self, *arguments: str, seconds: float = 600, check: bool = True) -> str:
        """What `docker compose` printed. Raises AssertionError with its complaints."""
        named = ["-p", self.project, "-f", str(ROOT / "deploy/compose.yaml"), "-f", str(self._override())]
        done = subprocess.run(
            ["docker", "compose", *named, *arguments],
            env=os.environ | self._env(), capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{' '.join(arguments)}: {done.stderr[-3000:]}"
        return done.stdout

    def _env(self) -> dict[str, str]:
        return {
            "AIMASS_SECRETS": str(self.folder / "secrets"),
            "AIMASS_IMPORT": str(self.folder),
            "AIMASS_HTTP_PORT": str(self.ports[0]),
            "AIMASS_DISK_PERCENT": "100",  # however full the disk is that the tests run on
            "AIMASS_GRPC_PORT": str(self.ports[1]),
            "AIMASS_INIT_USER": f"{os.getuid()}:{os.getgid()}",
            "AIMASS_SECRETS_GID": str(10001 if os.getuid() == 0 else os.getgid()),
        }

    def _override(self) -> Path:
        """Files lie in the container where they lie here, so that a test needs one name for them."""
        own: dict[str, Any] = {}
        for service in SERVICES:
            mine = {k: v for k, v in self.settings.items() if self._meant(k, service)}
            own[service] = {"environment": mine} if mine else {}
        files = self.files or self.folder
        own["data"]["volumes"] = [f"{files}:{files}:ro"]
        path = self.folder / "override.json"
        path.write_text(json.dumps({"services": {name: said for name, said in own.items() if said}}))
        return path

    @staticmethod
    def _meant(variable: str, service: str) -> bool:
        owner = variable.split("_")[1].lower()
        return owner == service or owner not in SERVICES

    def start(self, *more: str) -> "Stack":
        """Returns when everything is healthy."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        (self.folder / "secrets").mkdir(exist_ok=True)
        self.compose("run", "--rm", "-T", "--no-deps", "init")
        self.compose("up", "--detach", "--wait", *more)
        return self

    def remove(self) -> None:
        """Leaves no container, no volume and no file of it behind."""
        self.compose("kill", check=False)
        homes = self._homes()
        self.compose("down", "--volumes", check=False)
        # What a container had that was made anew counts as named, and would stay.
        subprocess.run(["docker", "volume", "rm", "--force", *homes], capture_output=True, check=False, timeout=60)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _homes(self) -> list[str]:
        listed = '{{range .Mounts}}{{if eq .Type "volume"}}{{println .Name}}{{end}}{{end}}'
        containers = self.compose("ps", "--all", "--quiet", check=False).split()
        command = ["docker", "inspect", "-f", listed, *containers]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.split()

    def renew(self) -> str:
        """What deploy/renew said of new certificates for all. Raises AssertionError with its complaints."""
        env = os.environ | self._env() | {"COMPOSE_PROJECT_NAME": self.project}
        command = [str(ROOT / "deploy/renew"), "--renew"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{done.stdout[-1500:]}{done.stderr[-1500:]}"
        return done.stdout

    def complaints(self, service: str = "") -> str:
        return self.compose("logs", "--no-color", "--tail", "60", *([service] if service else []), check=False)[-6000:]

    # What a `Server` of one process has as well, so that journeys need not know which one they walk through.

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.ports[0]}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.ports[1]}"

    @property
    def ca(self) -> str:
        return str(self.folder / "secrets/client/ca.pem")

    @property
    def key(self) -> str:
        return (self.folder / "secrets/gateway/admin_key").read_text().strip()

    @property
    def home(self) -> Path:
        """A folder with a copy of the gateway's log, as it is now."""
        with self.client() as client:
            client.access.who_am_i()
        time.sleep(0.5)
        copy = (self.files or self.folder) / "home/logs/access.log"
        copy.parent.mkdir(parents=True, exist_ok=True)
        self.compose("cp", f"gateway:{_LOG}", str(copy))
        copy.chmod(0o644)
        return copy.parent.parent

    def client(self, key: str = "", **options: Any) -> Client:
        return Client(self.url, key or self.key, timeout=60, ca=self.ca, **options)

    # What goes wrong with containers.

    def containers(self, service: str) -> list[str]:
        """Their ids, running ones only."""
        return self.compose("ps", "-q", service).split()

    def starts(self) -> dict[str, str]:
        """When each container was started, by its name."""
        command = ["docker", "inspect", "-f", "{{.Name}} {{.State.StartedAt}}", *self.compose("ps", "-q").split()]
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        return dict(line.split() for line in listed.splitlines())

    def crash(self, service: str, index: int = 1) -> None:
        """kill -9 of what a container runs."""
        self.compose("exec", "-T", "--index", str(index), service, "sh", "-c", _CRASH, check=False)

    def healthy(self, service: str, seconds: float = 180) -> float:
        """Seconds until every container of a service is healthy. Raises AssertionError."""
        began = time.monotonic()
        while True:
            found = [json.loads(line) for line in self.compose("ps", "--format", "json", service).splitlines()]
            if found and all(one["State"] == "running" and one["Health"] in ("healthy", "") for one in found):
                return time.monotonic() - began
            assert time.monotonic() - began < seconds, f"{service} is not healthy:\n{self.complaints(service)}"
            time.sleep(0.5)


@contextlib.contextmanager
def stack(folder: Path, **settings: str) -> Iterator[Stack]:
    """Containers that are there for a block; those of AIMASS_TEST_STACK stay as they are."""
    if note := os.environ.get("AIMASS_TEST_STACK"):
        document = json.loads(note)
        folder.chmod(0o755)
        yield Stack(Path(document["folder"]), settings, document["project"], document["ports"], folder).start()
        return
    made = Stack(folder, settings)
    try:
        yield made.start()
    finally:
        made.remove()
