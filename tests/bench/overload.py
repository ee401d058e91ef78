"""Twice and five times as many requests as can be answered, from callers who come again (RELIABILITY R10).

`python -m tests.bench.overload [--seconds 10]`. Prints goodput against the peak, p99 of those that were answered
against that at 70 % of the peak, p50 and p99 of refusals, and seconds until all is as before when the storm ends.
Nothing is asserted.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
from onnx import helper

from tests.bench.peers import COLUMNS, Peer, house
from tests.support.models import FLOAT, graph, value
from tests.support.server import ROOT

WIDTH, DEPTH = 768, 60
CALM, STORMS, SETTLING = 0.7, (2, 5), 4


def heavy() -> bytes:
    """`x` [rows, columns] FP32 -> `y` [rows, 1] FP32 in so many steps that there is too little of the engine."""
    dice = numpy.random.default_rng(7)
    names = ["x", *(f"h{step}" for step in range(DEPTH)), "y"]
    weights = ["first", *["middle"] * (DEPTH - 1), "last"]
    nodes = [
        helper.make_node("MatMul", [taken, weight], [given])
        for (taken, given), weight in zip(itertools.pairwise(names), weights, strict=True)
    ]
    sizes = {"first": (COLUMNS, WIDTH), "middle": (WIDTH, WIDTH), "last": (WIDTH, 1)}
    constants = {name: dice.normal(0, WIDTH**-0.5, size).astype("float32") for name, size in sizes.items()}
    return graph(nodes, [value("x", FLOAT, "rows", COLUMNS)], [value("y", FLOAT, "rows", 1)], constants)


def storm(peer: Peer, rates: Sequence[float]) -> list[dict[str, Any]]:
    """What happened in each second."""
    plan = {"host": peer.host, "port": peer.port, "request": peer.request.decode(), "rates": list(rates)}
    command = [sys.executable, "-m", "tests.bench.storm"]
    ended = subprocess.run(command, input=json.dumps(plan).encode(), stdout=subprocess.PIPE, check=True, cwd=ROOT)
    found: list[dict[str, Any]] = json.loads(ended.stdout)
    return found


def p99(seconds: Sequence[dict[str, Any]], of: str = "answered", percent: int = 99) -> float:
    """Milliseconds."""
    took = sorted(took for second in seconds for took in second[of])
    return took[len(took) * percent // 100] if took else 0.0


def recovered(seconds: Sequence[dict[str, Any]], calm: float) -> str:
    """How many seconds it took until no second was worse than twice the calm ones."""
    bad = [at for at, second in enumerate(seconds) if p99([second]) > 2 * calm or second["refused"]]
    after = max(bad) + 1 if bad else 0
    return f"{after} s" if after < len(seconds) else f"more than {len(seconds)} s"


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="of each storm")
    seconds = parser.parse_args().seconds
    with (
        tempfile.TemporaryDirectory() as folder,
        house(Path(folder) / "home", graph=heavy(), AIMASS_INFERENCE_THREADS="1") as ours,
    ):
        ours.measure(4, 1.0)
        peak = max(ours.measure(connections, max(seconds / 3, 2.0))["rps"] for connections in (8, 32))
        quiet = storm(ours, [CALM * peak] * seconds)
        calm = p99(quiet)
        print(f"peak {peak:.0f} requests/s; at {CALM:.0%} of it p99 {calm:.1f} ms")
        for times in STORMS:
            # What it bears is found out in the first seconds, which count for the time to recover only.
            found = storm(ours, [times * peak] * (SETTLING + seconds) + [CALM * peak] * max(seconds, 10))
            during, behind = found[SETTLING : SETTLING + seconds], found[SETTLING + seconds :]
            answered = sum(len(second["answered"]) for second in during) / seconds
            failed = sum(len(second["failed"]) for second in found)
            print(
                f"{times} x: goodput {answered / peak:.2f} of the peak, answered p99 {p99(during) / calm:.2f} x calm"
                f" ({p99(during):.0f} ms), refused p50 {p99(during, 'refused', 50):.1f} ms"
                f" p99 {p99(during, 'refused'):.1f} ms"
                f" ({sum(len(second['refused']) for second in during)} of them), other failures {failed},"
                f" as before after {recovered(behind, calm)}"
            )


if __name__ == "__main__":
    main()
