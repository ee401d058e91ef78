"""What results of floating point depend on: the runtime's version and the processor's widest vector instructions.

The trainer and the registry write it into signatures, inference compares: the text must be the same everywhere.
"""

import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

_WIDEST_FIRST = ("avx512f", "avx2", "avx", "sve", "asimd")


@cache
def instruction_set() -> str:
    """Architecture and the widest vector extension: `x86_64-avx512f`."""
    try:
        found = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:  # not Linux: the architecture alone must do
        found = set()
    widest = next((name for name in _WIDEST_FIRST if name in found), "")
    return f"{platform.machine()}-{widest}" if widest else platform.machine()


@cache
def checked_on() -> str:
    """What goes into a signature: `onnxruntime 1.31.1, x86_64-avx512f`."""
    return f"onnxruntime {version('onnxruntime')}, {instruction_set()}"
