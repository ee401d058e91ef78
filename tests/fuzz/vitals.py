"""What a process holds while it is fired at: memory, open files, threads, children, tasks."""

import contextlib
import re
import urllib.request
from collections.abc import Sequence
from pathlib import Path
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
    """How much more there may be at the most in the second half than there was in the first."""

    memory: float = 64.0  # MiB
    files: int = 64
    threads: int = 16
    children: int = 4
    tasks: int = 256


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


def growth(samples: Sequence[Sample], field: str) -> float:
    """By how much the highest of the second half is above the highest of the first.

    Memory is a saw: what refers to itself waits for the garbage collector, which comes seldom. A line through its teeth
    says where the last tooth ended; their tips say whether they grow.
    """
    values = [float(getattr(one, field)) for one in samples]
    middle = len(values) // 2
    return max(values[middle:]) - max(values[:middle] or values)


def rising(samples: Sequence[Sample], bound: Bound) -> list[str]:
    """What rises more than it may."""
    found = []
    for field in Bound._fields:
        if (more := growth(samples, field)) > getattr(bound, field):
            values = [round(getattr(one, field)) for one in samples]
            found.append(f"{field} rises by {more:.0f} in the second half: {values}")
    return found
