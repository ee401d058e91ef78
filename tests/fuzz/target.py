"""An installation that is fired at: what it has before, what it still has after, and what it writes meanwhile."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import orjson

from aimass import Signer
from tests.fuzz.findings import Secrets
from tests.fuzz.seeds import rows
from tests.support.models import logistic
from tests.support.server import Server, free_ports

# What things are called by those who fire: so few names that much is there when it is asked for.
NAMES = ("m", "a", "b", "c-1", "late", "default")
Wrong = Callable[[int, str, bytes], None]
# One caller makes all the load, and whoever is told 429 tries nothing.
_RATES = {"AIMASS_GATEWAY_RATE": "1000000", "AIMASS_GATEWAY_BURST": "1000000", "AIMASS_GATEWAY_MAX_CONNECTIONS": "4000"}
_BUG = re.compile(rb'"severity": "(ERROR|CRITICAL)"|"trace": |Traceback|Warning: |never retrieved|was never awaited')
# What belongs to others; nothing that is fired may change it.
_OTHERS = ("models", "api-keys", "roles", "bindings", "sources", "jobs", "quotas", "policies/versions", "price-lists")


class Target:
    """A running installation with a model in two tenants, one of which is fired at."""

    def __init__(self, server: Server, observed: str) -> None:
        """`observed` is where it tells its figures."""
        self.server, self.observed = server, observed
        self.admin = server.key
        self._client: Any = server.client()
        _serve(self._client, "probe", server.home)
        self.stranger = f"aim_nobody00_{'x' * 43}"
        self.key, self._tenants = "", 0
        self.renew()
        logs = sorted((server.home / "logs").glob("*.log"))
        self._tails = {path.name: Tail(path) for path in (*logs, server.home.with_suffix(".err"))}
        self._before = self._others()

    @property
    def port(self) -> int:
        return self.server.ports[0]

    @property
    def pid(self) -> int:
        return self.server.processes[0].pid

    @property
    def alive(self) -> bool:
        return self.server.processes[0].poll() is None

    def renew(self) -> None:
        """Begins in a new tenant if in this one nothing can be done any more: it may have forbidden itself all."""
        if self._tenants and all(
            self.get(path, self.key).status_code == 200 for path in ("/v1/whoami", "/v2/models/m")
        ):
            return
        self._tenants += 1
        tenant = f"fuzz{self._tenants}"
        self._client.access.create_tenant(tenant=tenant)
        made = self._client.access.create_api_key(tenant=tenant, signing={"policy": "optional"})
        self.key, self.signer = str(made.secret), Signer.of(str(made.signing_secret))
        self.secrets = Secrets(self.key, self.admin)
        with self.server.client(self.key) as own:
            _serve(own, "m", self.server.home)
            self.upload = str(own.artifacts.create_artifact_upload().upload)

    def get(self, path: str, key: str = "") -> httpx2.Response:
        headers = {"authorization": f"Bearer {key or self.admin}"}
        return httpx2.get(self.server.url + path, headers=headers, timeout=30, verify=False)

    def wrong(self) -> list[str]:
        """What is not as it has to be between two shots: it lives, answers, predicts, and has logged no bug."""
        if (status := self.server.processes[0].poll()) is not None:
            return [f"the process has ended with {status}: {self.server.complaints()}"]
        found = []
        with httpx2.Client(base_url=self.server.url, timeout=30) as client:
            if (answer := client.get("/health/ready")).status_code != 200:
                found.append(f"its health is {answer.status_code} {answer.text[:300]}")
            own = {"authorization": f"Bearer {self.admin}", "content-type": "application/json"}
            answer = client.post("/v2/models/probe/infer", content=rows(), headers=own)
            if answer.status_code != 200:
                found.append(f"a prediction is {answer.status_code} {answer.text[:300]}")
        return found + self.complaints()

    def complaints(self) -> list[str]:
        """What its logs have of bugs since the last look, and of calls over gRPC that ended with 5xx."""
        found = []
        for name, tail in self._tails.items():
            lines = tail.lines()
            if name == "access.log":
                found += [f"the access log has {line.decode()}" for line in lines if _fails(line)]
            else:
                found += [f"{name} has {line.decode(errors='replace')}" for line in lines if _BUG.search(line)]
        return found

    def trespasses(self) -> list[str]:
        """What of others has changed."""
        after = self._others()
        return [f"{path} of another tenant has changed" for path, text in self._before.items() if after[path] != text]

    def _others(self) -> dict[str, Any]:
        found = {path: orjson.loads(self.get(f"/v1/{path}?page_size=1000").content) for path in _OTHERS}
        for key in found["api-keys"].get("api_keys", []):
            key.pop("last_used_time", None)
        return found

    def close(self) -> None:
        self._client.close()
        for tail in self._tails.values():
            tail.close()


class Tail:
    """What is added to a file, also when it makes room for a new one."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.open("rb")

    def lines(self) -> list[bytes]:
        """The whole lines since the last look."""
        found = self._whole()
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino:
                self._file.close()
                self._file = self._path.open("rb")
                found += self._whole()
        return found

    def _whole(self) -> list[bytes]:
        at = self._file.tell()
        data = self._file.read()
        end = data.rfind(b"\n") + 1
        self._file.seek(at + end)
        return data[:end].splitlines()

    def close(self) -> None:
        self._file.close()


@contextlib.contextmanager
def target(folder: Path) -> Iterator[Target]:
    """One for a block, all services in one process."""
    observed = f"127.0.0.1:{free_ports(1)[0]}"
    server = Server(folder / "home", _RATES | {"AIMASS_OBSERVE_LISTEN": observed}, module="tests.fuzz.tidied")
    try:
        found = Target(server.start(60), observed)
        try:
            yield found
        finally:
            found.close()
    finally:
        server.kill()


def _serve(client: Any, model: str, home: Path) -> None:
    file = home / "fuzz.onnx"
    file.write_bytes(logistic())
    digest = client.upload(file, to="artifacts").digest
    client.models.create_model(model=model)
    client.models.create_model_version(model=model, files=[{"name": "model.onnx", "digest": digest}])
    client.releases.promote_version(model=model, version=1).wait(progress=None)


def _fails(line: bytes) -> bool:
    if b'"method":"GRPC"' not in line or b'"status":5' not in line:
        return False
    return int(orjson.loads(line)["status"]) != 504  # the caller says how long he waits
