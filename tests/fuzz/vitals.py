"""What a process holds while it is fired at: memory, open files, threads, children, tasks."""

import contextlib
import re
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from statistics import linear_regression, pstdev
from typing import NamedTuple

import psutil

_ANONYMOUS = re.compile(r"RssAnon:\s+(\d+) kB")
_TASKS = re.compile(r"^aimass_tasks (\d+)", re.MULTILINE)
MIB = 2**20


class Sample(NamedTuple):
    """At one moment, after so many `shots`."""

    shots: int
    memory: (
        float  # MiB that are the process's own: pages of files that it has mapped come and go with the kernel's mind
    )
    files: int
    threads: int
    children: int
    tasks: int


class Bound(NamedTuple):
    """How much more there may be at the end of the second half than at its beginning, beside what sways."""

    memory: float = 32.0  # MiB
    files: int = 32
    threads: int = 16
    children: int = 4
    tasks: int = 64


def sample(pid: int, count: int, observed: str) -> Sample:
    """Looks at a process; `observed` is where it tells its figures."""
    process = psutil.Process(pid)
    with contextlib.suppress(FileNotFoundError):
        text = Path(f"/proc/{pid}/status").read_text()
    found = _ANONYMOUS.search(text)
    memory = int(found[1]) * 1024 if found else process.memory_info().rss
    with urllib.request.urlopen(f"http://{observed}/metrics", timeout=10) as answer:
        tasks = _TASKS.search(answer.read().decode())
    children = len(process.children(recursive=True))
    more = process.num_fds(), process.num_threads(), children, int(tasks[1]) if tasks else 0
    return Sample(count, memory / MIB, *more)


def growth(samples: Sequence[Sample], field: str) -> tuple[float, float]:
    """What a line through the second half of the samples rises by from its beginning to its end, and how far the
    samples lie from it (standard deviation)."""
    half = samples[len(samples) // 2 :]
    if len(half) < 3:
        return 0.0, 0.0
    found = linear_regression([one.shots for one in half], values := [float(getattr(one, field)) for one in half])
    off = [value - found.intercept - found.slope * one.shots for value, one in zip(values, half, strict=True)]
    return found.slope * (half[-1].shots - half[0].shots), pstdev(off)


def rising(samples: Sequence[Sample], bound: Bound) -> list[str]:
    """What rises more than it may. What sways by as much says nothing."""
    found = []
    for field in Bound._fields:
        more, sway = growth(samples, field)
        if more > getattr(bound, field) + 2 * sway:
            values = [round(getattr(one, field)) for one in samples]
            found.append(f"{field} rises by {more:.0f} in the second half: {values}")
    return found
