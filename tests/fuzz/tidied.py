"""Services as `python -m services` runs them, that clear away their garbage when they are told to: by SIGUSR2.

What they hold is then what they keep. Without it memory is a saw, whose teeth are as long as the collector is lazy.
"""

import ctypes
import gc
import signal
import sys


def tidy(*_: object) -> None:
    """Collects what refers to itself, and gives back to the system what the allocator holds for later."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, tidy)

    from services.__main__ import main

    sys.exit(main())
