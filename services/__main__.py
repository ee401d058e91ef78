"""Runs services: all of them in one process, or those named."""

import os
import sys

from services import SERVICES
from services.kit.probe import probe


def main() -> int:
    """`python -m services [name ...]`; 2 for settings that cannot be, 1 for a start that failed.

    `python -m services --probe host:port` asks the process that is observed there: 0 if it is ready, else 1.
    `--probe <home>/observed` asks the one with that home folder.
    `--backup FILE` and `--restore FILE` copy what all services of a stack keep, by the same settings.
    """
    if sys.argv[1:2] == ["--probe"]:
        return 0 if probe((sys.argv[2:3] or [""])[0]) else 1
    if sys.argv[1:2] in (["--backup"], ["--restore"]):
        from services.kit.stack import command

        return command(sys.argv[1:])
    return serve(tuple(sys.argv[1:]))


def serve(names: tuple[str, ...]) -> int:
    """Runs services until they are told to stop; all if none is named."""
    import asyncio
    import gc

    # What is imported stays: looking for garbage in it is a seventh of a start. `run` looks again, beside it.
    gc.disable()
    # Nearly all that a request makes goes away by itself: a look after each 700 of it was a fifteenth of a prediction.
    # What lives longer is looked through in each third of them, not each eleventh as by default: seldom looks of both
    # kinds left a process with half as much again, in garbage.
    gc.set_threshold(20_000, 2, 2)

    from services.kit.config import ConfigError
    from services.kit.errors import Failure
    from services.kit.running import run

    names = names or SERVICES
    if unknown := sorted(set(names) - set(SERVICES)):
        print(f"no such service: {', '.join(unknown)}; there are {', '.join(SERVICES)}", file=sys.stderr)
        return 2
    # One thread answers requests, others (SQL, telemetry, engines) work beside it: after each call that lets
    # them run it would wait up to the default of 5 ms for its turn.
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
    # Everything has stopped. A thread in which a library still waits for somebody would be waited for.
    os._exit(status)
