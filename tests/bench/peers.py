"""Those who are measured, each in processes of its own, asked with the same body."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.support.models import logistic
from tests.support.server import ROOT, free_ports, serving
from tests.support.servers import Missing, make

COLUMNS = 8
BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, COLUMNS], "data": [0.125 * n for n in range(COLUMNS)]}]}
).encode()
# One key makes all the load: its bucket is taken from on every request but must not run dry.
LIMITS = {"AIMASS_GATEWAY_RATE": "1000000", "AIMASS_GATEWAY_BURST": "1000000", "AIMASS_LOG_LEVEL": "WARNING"}


@dataclass
class Peer:
    """Where one is, and what it is asked."""

    name: str
    host: str
    port: int
    path: str
    headers: dict[str, str]
    pids: list[int] = field(default_factory=list)  # processes that work for its answers, beside their children
    body: bytes = BODY
    client: Callable[[], Any] = lambda: None  # of ours: the SDK's, with the administrator's key

    @property
    def request(self) -> bytes:
        """The whole HTTP request."""
        own = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(len(self.body))}
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in (own | self.headers).items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body

    def measure(self, connections: int, seconds: float) -> dict[str, float]:
        """One run of the client; `cpu` are seconds of the peer's processes for 1,000 requests."""
        plan = {"host": self.host, "port": self.port, "request": self.request.decode()}
        plan |= {"connections": connections, "seconds": seconds}
        command = [sys.executable, "-m", "tests.bench.load"]
        before = _cpu(self.pids)
        ended = subprocess.run(command, input=json.dumps(plan).encode(), stdout=subprocess.PIPE, check=True, cwd=ROOT)
        found: dict[str, float] = json.loads(ended.stdout)
        return found | {"cpu": (_cpu(self.pids) - before) / max(found["count"], 1) * 1000}


@contextlib.contextmanager
def house(
    home: Path, name: str = "AI Mass", alone: Sequence[str] = (), graph: bytes = b"", **env: str
) -> Iterator[Peer]:
    """All our services in one process, or some alone with gRPC between them, with the model released."""
    with serving(home, alone, ROOT, **(LIMITS | env)) as server:
        client: Any = server.client()
        file = home / "bench.onnx"
        file.write_bytes(graph or logistic(COLUMNS))
        uploaded = client.upload(file, to="artifacts")
        client.models.create_model(model="bench")
        files = [{"name": "model.onnx", "digest": uploaded.digest}]
        client.models.create_model_version(model="bench", files=files)
        client.releases.promote_version(model="bench", version=1).wait(progress=None)
        key = {"Authorization": f"Bearer {server.key}"}
        pids = [process.pid for process in server.processes]
        yield Peer(name, "127.0.0.1", server.ports[0], "/v2/models/bench/infer", key, pids, BODY, server.client)


@contextlib.contextmanager
def bare(home: Path) -> Iterator[Peer]:
    """uvicorn and ONNX Runtime."""
    home.mkdir(parents=True, exist_ok=True)
    graph = home / "bare.onnx"
    graph.write_bytes(logistic(COLUMNS))
    [port] = free_ports(1)
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.bare", str(graph), str(port)], cwd=ROOT)
    peer = Peer("bare uvicorn + onnxruntime", "127.0.0.1", port, "/", {}, [process.pid])
    try:
        wait(peer)
        yield peer
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def triton(home: Path) -> Iterator[list[Peer]]:
    """We in front of a Triton server, and the same version at its own HTTP door; nobody where there is no Triton."""
    home.mkdir(parents=True, exist_ok=True)
    try:
        program = make("triton", home).start()
    except Missing as missing:
        print(f"Triton: skipped, {missing}")
        yield []
        return
    try:
        door = program.doors["triton_http"]
        engine = {
            "AIMASS_INFERENCE_ENGINE": f"triton://{program.address}",
            "AIMASS_INFERENCE_ENGINE_HTTP": door,
        }
        # As in production: nobody shares the gateway's process, nor that of inference.
        with house(home / "home", "AI Mass on Triton", ["gateway", "inference"], b"", **engine) as ours:
            pids = [program.process.pid] if program.process else []
            ours.pids += pids
            path = "/v2/models/default.default.bench.1/infer"
            yield [ours, Peer("Triton's HTTP door", "127.0.0.1", int(door.rpartition(":")[2]), path, {}, pids)]
    finally:
        program.stop()


def wait(peer: Peer) -> None:
    """Returns when it listens. Raises TimeoutError."""
    for _ in range(200):
        with contextlib.suppress(subprocess.CalledProcessError):
            command = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)"
            subprocess.run(
                [sys.executable, "-c", command, peer.host, str(peer.port)], check=True, stderr=subprocess.DEVNULL
            )
            return
        time.sleep(0.05)
    raise TimeoutError(f"{peer.name} does not listen")


def _cpu(pids: Sequence[int]) -> float:
    """Seconds that processes and those that they started have had of processors."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):  # one that has ended works no more
            process = psutil.Process(pid)
            for one in (process, *process.children(recursive=True)):
                total += sum(one.cpu_times()[:2])
    return total
