"""Those who serve models in Python, each in an environment of its own, which is made when it is not there yet.

`python -m tests.bench.others [seconds per run] [rounds]` measures them beside AI Mass in one process. What cannot be
had here is said and left out. Nothing is asserted.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.__main__ import rounds, table
from tests.bench.peers import BODY, COLUMNS, Peer, house, wait
from tests.support.models import logistic
from tests.support.server import free_ports
from tests.support.servers import Missing

ENVIRONMENTS = Path(tempfile.gettempdir()) / "aimass-bench"
SERVERS = Path(__file__).parent / "servers"
CONNECTIONS = (1, 32)
CHAT = b'{"model":"bench","messages":[{"role":"user","content":"1"}]}'
KEY = f"sk-{secrets.token_hex(24)}"  # of who has keys
_PATIENCE = 900  # seconds that an environment may take


@dataclass(frozen=True)
class Other:
    """What to install, what to run in it, and what it is asked."""

    name: str
    packages: tuple[str, ...]
    script: str
    ports: int
    path: str
    body: bytes = BODY


OTHERS = (
    Other("LitServe", ("litserve",), "lit.py", 1, "/predict"),
    Other("MLServer", ("mlserver",), "ml.py", 3, "/v2/models/bench/infer"),
    Other("KServe", ("kserve",), "kube.py", 2, "/v2/models/bench/infer"),
    # A gateway of another kind: keys and forwarding in Python, and nothing is computed behind it.
    Other("LiteLLM, stub upstream", ("litellm[proxy]",), "llm.py", 2, "/v1/chat/completions", CHAT),
)


def environment(other: Other) -> Path:
    """The Python of an environment that has the packages. Raises Missing."""
    folder = ENVIRONMENTS / other.script.removesuffix(".py")
    python, done = folder / "bin" / "python", folder / "installed"
    if done.exists():
        return python
    install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "onnxruntime", "numpy"]
    try:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True, timeout=_PATIENCE)
        subprocess.run([*install, *other.packages], check=True, capture_output=True, timeout=_PATIENCE)
    except subprocess.CalledProcessError as error:
        raise Missing(f"it cannot be installed: {error.stderr.decode(errors='replace').strip()[-200:]}") from None
    except subprocess.TimeoutExpired:
        raise Missing(f"it is not installed within {_PATIENCE} s") from None
    done.touch()
    return python


@contextlib.contextmanager
def serving(other: Other, home: Path) -> Iterator[Peer]:
    """One of them, running. Raises Missing."""
    graph = home / "bench.onnx"
    graph.write_bytes(logistic(COLUMNS))
    python, ports = environment(other), [str(port) for port in free_ports(other.ports)]
    with open(home / f"{other.script}.log", "wb") as log:
        command = [str(python), str(SERVERS / other.script), str(graph), *ports]
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=home, start_new_session=True, env=os.environ | {"BENCH_KEY": KEY}
        )
    shown = {"Authorization": f"Bearer {KEY}"}
    peer = Peer(other.name, "127.0.0.1", int(ports[0]), other.path, shown, [process.pid], other.body)
    try:
        try:
            wait(peer)
            if peer.measure(1, 1.0)["failed"]:
                raise Missing("it does not answer as it should")
        except (TimeoutError, subprocess.CalledProcessError):
            raise Missing("it does not listen") from None
        yield peer
    except Missing as missing:
        output = (home / f"{other.script}.log").read_text(errors="replace").strip()[-200:]
        raise Missing(f"{missing}: {output}") from None
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends it and all that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)


def main() -> None:
    """Measures and prints."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nobody who was started is left behind
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory() as folder, house(Path(folder) / "home") as ours, contextlib.ExitStack() as stack:
        peers = [ours]
        for other in OTHERS:
            try:
                peers.append(stack.enter_context(serving(other, Path(folder))))
            except Missing as missing:
                print(f"{other.name}: not to be had, {missing}", flush=True)
        for connections in CONNECTIONS:
            table(connections, rounds(peers, connections, seconds, count))


if __name__ == "__main__":
    main()
