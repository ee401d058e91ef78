"""Runs services: all of them in one process, or those named."""

import os
import sys

from services import SERVICES
from services.kit.probe import probe


def main() -> int:
    """`python -m services [name ...]`; returns 2 for wrong settings, 1 for a start that failed.

    `--probe host:port` returns 0 if the process that is observed there is ready, else 1; `--probe <home>/observed`
    finds the address in that file. `--backup FILE` and `--restore FILE` copy what a stack keeps.
    """
    if sys.argv[1:2] == ["--probe"]:
        return 0 if probe((sys.argv[2:3] or [""])[0]) else 1
    if sys.argv[1:2] in (["--backup"], ["--restore"]):
        from services.kit.stack import command

        return command(sys.argv[1:])
    return serve(tuple(sys.argv[1:]))


def serve(names: tuple[str, ...]) -> int:
    """Runs services until they are told to stop; all of them if none is named."""
    import asyncio
    import gc

    # Collecting garbage among what is imported took a seventh of a start; `run` enables it again.
    gc.disable()
    # Nearly all that a request allocates is freed by its reference count: a collection after each 700 objects took a
    # fifteenth of a prediction. Older generations are collected more often than by default, at each third collection:
    # with both rare, a process grew by half.
    gc.set_threshold(20_000, 2, 2)

    from services.kit.config import ConfigError
    from services.kit.errors import Failure
    from services.kit.running import run

    names = names or SERVICES
    if unknown := sorted(set(names) - set(SERVICES)):
        print(f"no such service: {', '.join(unknown)}; there are {', '.join(SERVICES)}", file=sys.stderr)
        return 2
    # The thread of the event loop would wait up to the default of 5 ms to get the GIL back from others (SQL, telemetry,
    # engines).
    sys.setswitchinterval(0.0005)
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    try:
        with runner:
            runner.run(run(names))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "services").partition(".")[0] in ("services", "aimass"):
            raise
        # Of the extra `far`: its packages are imported only where a setting names a server.
        print(
            f"a setting needs the package {error.name}, which is not installed: pip install 'aimass-server[far]'",
            file=sys.stderr,
        )
        return 2
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything has stopped; a normal exit would wait for threads in which libraries still block.
    os._exit(status)
