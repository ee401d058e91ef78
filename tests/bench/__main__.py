"""Near path against bare uvicorn + onnxruntime, and far path against Triton's own door where there is a Triton: one row
per request, closed loop, alternating runs.

`python -m tests.bench [seconds per run] [rounds]`. Nothing here is asserted: it prints medians and their ratios.
"""

import signal
import statistics
import sys
import tempfile
from pathlib import Path

from tests.bench.peers import Peer, bare, house, triton

CONNECTIONS = (1, 32)
ON_TRITON = (1, 8, 32, 128)
FIGURES = ("rps", "p50", "p99", "cpu")


def rounds(peers: list[Peer], connections: int, seconds: float, count: int) -> dict[str, dict[str, float]]:
    """Medians by peer and figure; the peers take turns, so that what disturbs one disturbs all."""
    runs: dict[str, list[dict[str, float]]] = {peer.name: [] for peer in peers}
    for peer in peers:
        peer.measure(connections, 0.5)
    for _ in range(count):
        for peer in peers:
            runs[peer.name].append(peer.measure(connections, seconds))
    for name, found in runs.items():
        if failed := sum(run["failed"] for run in found):
            print(f"{name}: {failed:.0f} requests failed", file=sys.stderr)
    return {
        name: {figure: statistics.median(run[figure] for run in found) for figure in FIGURES}
        for name, found in runs.items()
    }


def table(connections: int, medians: dict[str, dict[str, float]]) -> None:
    """Prints medians, and the ratio of ours to each peer's."""
    print(f"\n{connections} connection{'s' * (connections > 1)}")
    print(f"  {'':28}{'rps':>9}{'p50 ms':>9}{'p99 ms':>9}{'cpu s/1000':>12}")
    for name, found in medians.items():
        print(f"  {name:28}{found['rps']:9.0f}{found['p50']:9.3f}{found['p99']:9.3f}{found['cpu']:12.3f}")
    ours, *others = medians.items()
    for name, found in others:
        ratios = "".join(f"{ours[1][figure] / found[figure]:9.2f}" for figure in FIGURES)
        print(f"  {'ratio to ' + name:28.28}{ratios}")


def main() -> None:
    """Measures and prints."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nobody who was started is left behind
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory() as folder, house(Path(folder) / "home") as ours, bare(Path(folder)) as other:
        for connections in CONNECTIONS:
            table(connections, rounds([ours, other], connections, seconds, count))
    with tempfile.TemporaryDirectory() as folder, triton(Path(folder)) as peers:
        for connections in ON_TRITON if peers else ():
            table(connections, rounds(peers, connections, seconds, count))


if __name__ == "__main__":
    main()
