"""What the gateway adds at 70 % load, whether full tables change that, and whether memory grows.

`python -m tests.bench.scale [--seconds 5] [--rounds 3] [--keys 1000] [--models 500] [--requests 200000]`. Two
installations of one process each take turns, one of them with keys (each with a limit, each bound) and released models
in its tables, and bare uvicorn with ONNX Runtime beside them. Nothing is asserted.
"""

import argparse
import concurrent.futures
import contextlib
import itertools
import math
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.bench.overload import p99, storm
from tests.bench.peers import COLUMNS, Peer, bare, house
from tests.support.models import logistic

LOAD, CONNECTIONS, AT_ONCE = 0.7, 32, 4
WARM = 1 / 3  # of the requests, after which memory counts
_MANY = 10_000_000  # requests that the slope is said for


def fill(peer: Peer, keys: int, models: int, progress: Callable[[str], None]) -> None:
    """Keys with a limit and a binding each, and released models, in an installation's tables."""
    client: Any = peer.client()
    client.roles.create_role(role="scorer", permissions=["models.infer"])
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        Path(file.name).write_bytes(logistic(COLUMNS))
        uploaded = client.upload(Path(file.name), to="artifacts")
    files = [{"name": "model.onnx", "digest": uploaded.digest}]

    def key(number: int) -> None:
        limit = {"rate": 10.0 + number, "burst": 20.0 + number}
        made = client.access.create_api_key(display_name=f"key {number}", rate_limit=limit, bindings_only=True)
        who = f"key:{made.api_key.api_key}"
        objects = [f"models/filler-{number % max(models, 1)}"]
        client.roles.create_binding(binding=f"b{number}", role="scorer", principal=who, objects=objects)

    def model(number: int) -> None:
        name = f"filler-{number}"
        client.models.create_model(model=name)
        client.models.create_model_version(model=name, files=files)
        client.releases.promote_version(model=name, version=1).wait(progress=None)

    _each(key, keys)
    progress(f"{keys} keys are made")
    _each(model, models)
    progress(f"{models} models are released")


def _each(make: Callable[[int], None], count: int) -> None:
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(make, range(count)))


def latency(peers: Sequence[Peer], rate: float, seconds: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Medians of the p50 and p99 of each, in milliseconds, at a rate; they take turns."""
    found: dict[str, list[tuple[float, float]]] = {peer.name: [] for peer in peers}
    for _, peer in itertools.product(range(rounds), peers):
        run = storm(peer, [rate] * (seconds + 1))[1:]
        if others := sum(len(second["refused"]) + len(second["failed"]) for second in run):
            print(f"{peer.name}: {others} requests were not answered", file=sys.stderr)
        found[peer.name].append((p99(run, percent=50), p99(run)))
    return {
        name: (statistics.median(half for half, _ in each), statistics.median(most for _, most in each))
        for name, each in found.items()
    }


def resident(pids: Sequence[int]) -> float:
    """Bytes of memory of processes."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += psutil.Process(pid).memory_info().rss
    return total


def growth(peer: Peer, requests: int, seconds: float) -> tuple[float, float, int]:
    """Bytes at the end, bytes by which they grow with each request once warm, and the requests."""
    done, seen = 0.0, []
    while done < requests:
        done += peer.measure(CONNECTIONS, seconds)["count"]
        seen.append((done, resident(peer.pids)))
    warm = [one for one in seen if one[0] >= WARM * done] or seen
    slope = statistics.linear_regression(*zip(*warm, strict=True)).slope if len(warm) > 2 else math.nan
    return seen[-1][1], slope, int(done)


def main() -> None:
    """Measures and prints."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nobody who was started is left behind
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("seconds", 5), ("rounds", 3), ("keys", 1000), ("models", 500), ("requests", 200_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        house(Path(folder) / "few", "few keys and models") as few,
        house(Path(folder) / "many", f"{arguments.keys} keys, {arguments.models} models") as many,
        bare(Path(folder)) as other,
    ):
        fill(many, arguments.keys, arguments.models, lambda text: print(text, flush=True))
        peers = (few, many, other)
        peak = min(
            statistics.median(one.measure(CONNECTIONS, arguments.seconds)["rps"] for _ in range(3)) for one in peers
        )
        rate = LOAD * peak
        found = latency(peers, rate, arguments.seconds, arguments.rounds)
        alone = found[other.name]
        print(f"at {rate:.0f} requests/s, {LOAD:.0%} of the least peak")
        for name, (half, most) in found.items():
            added = f", added {half - alone[0]:.2f} and {most - alone[1]:.2f} ms" if name != other.name else ""
            print(f"  {name:28} p50 {half:.2f} ms, p99 {most:.2f} ms{added}", flush=True)
        size, slope, done = growth(many, arguments.requests, float(arguments.seconds))
        print(
            f"memory after {done} requests {size / 2**20:.0f} MiB, growing by {slope:.2f} bytes a request:"
            f" {slope * _MANY / 2**20:.0f} MiB in {_MANY:,}"
        )


if __name__ == "__main__":
    main()
