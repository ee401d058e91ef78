"""Stack traces and bodies behind the lines of a log, from a seed, with where each record begins."""

import json
import random
from collections.abc import Sequence
from typing import NamedTuple

_PACKAGES = ["com.example.parcel", "org.shop.cart", "io.harbour.crane", "net.tower.bell"]
_CLASSES = ["Planner", "Router", "Session", "Ledger", "Broker"]
_ERRORS = ["IllegalStateException", "NullPointerException", "TimeoutException", "IOException"]
_FILES = ["app/jobs.py", "lib/queue.py", "shop/cart.py"]


class Planted(NamedTuple):
    """The lines of a file, its records, and the number of the line that each record begins with."""

    lines: list[str]
    records: list[str]
    starts: list[int]


def planted(lines: Sequence[str], seed: int, share: float = 0.15) -> Planted:
    """Some of the lines with more of them behind, as programs of Java and Python and pretty printers write them."""
    source, found, records, starts = random.Random(seed), list[str](), list[str](), list[int]()
    for number, line in enumerate(lines):
        rest = source.choice((_java, _python, _body))(source) if source.random() < share and number else []
        starts.append(len(found))
        found += [line, *rest]
        records.append("\n".join([line, *rest]))
    return Planted(found, records, starts)


def _java(source: random.Random) -> list[str]:
    def frames() -> list[str]:
        return [
            f"\tat {source.choice(_PACKAGES)}.{source.choice(_CLASSES)}.run({source.choice(_CLASSES)}.java:{n})"
            for n in source.sample(range(10, 900), source.randint(2, 6))
        ]

    error = f"{source.choice(_PACKAGES)}.{source.choice(_ERRORS)}: no lane {source.randint(1, 99)}"
    more = [f"Caused by: java.io.{source.choice(_ERRORS)}", *frames(), "\t... 12 more"] if source.random() < 0.4 else []
    return [error, *frames(), *more]


def _python(source: random.Random) -> list[str]:
    frames = [
        line
        for _ in range(source.randint(1, 4))
        for line in (
            f'  File "{source.choice(_FILES)}", line {source.randint(1, 400)}, in run',
            f"    step({source.randint(1, 9)})",
        )
    ]
    return ["Traceback (most recent call last):", *frames, f"ValueError: bad count {source.randint(1, 99)}"]


def _body(source: random.Random) -> list[str]:
    return json.dumps({"order": source.randint(1, 999), "lines": [{"sku": "a", "n": 2}]}, indent=2).split("\n")
