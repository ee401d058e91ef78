"""What a process holds while it is fired at: memory, open files, threads, children, tasks."""

import contextlib
import os
import re
import signal
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from statistics import median
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
    """How much more there may be at the most in the last third than there was in the one before."""

    memory: float = 32.0  # MiB
    files: int = 32
    threads: int = 16
    children: int = 4
    tasks: int = 64


def sample(pid: int, count: int, observed: str) -> Sample:
    """Looks at a process; `observed` is where it tells its figures."""
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGUSR2)  # see `tidied`; it is done before its loop answers anybody
    with urllib.request.urlopen(f"http://{observed}/metrics", timeout=30) as answer:
        tasks = _TASKS.search(answer.read().decode())
    with contextlib.suppress(FileNotFoundError):
        text = Path(f"/proc/{pid}/status").read_text()
    found = _ANONYMOUS.search(text)
    memory = int(found[1]) * 1024 if found else process.memory_info().rss
    children = len(process.children(recursive=True))
    more = process.num_fds(), process.num_threads(), children, int(tasks[1]) if tasks else 0
    return Sample(count, memory / MIB, *more)


def growth(samples: Sequence[Sample], field: str) -> float:
    """By how much the middle of the last third is above the middle of the one before: the first third warms up."""
    values = [float(getattr(one, field)) for one in samples]
    third = -(-len(values) // 3)
    return median(values[-third:]) - median(values[-2 * third : -third] or values)


def rising(samples: Sequence[Sample], bound: Bound) -> list[str]:
    """What rises more than it may."""
    found = []
    for field in Bound._fields:
        if (more := growth(samples, field)) > getattr(bound, field):
            values = [round(getattr(one, field)) for one in samples]
            found.append(f"{field} rises by {more:.0f} in the last third: {values}")
    return found
