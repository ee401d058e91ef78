"""Starts real servers and runs tests against them: `python -m tests.far [server ...] [-- pytest arguments]`.

All servers if none is named, every far and contract test and then the journeys if no arguments are given. What cannot
be had is said, and its tests are skipped. What fails is run once more, and both runs are shown: who fails twice fails.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.support.servers import NAMES, Missing, Program, make

JOURNEYS = ("tests/journeys/test_story.py", "tests/journeys/test_crash.py", "tests/journeys/test_tenancy.py")


def main(arguments: list[str]) -> int:
    """The tests' exit status."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    names, rest = arguments[:split] or list(NAMES), arguments[split + 1 :]
    if unknown := sorted(set(names) - set(NAMES)):
        print(f"no such server: {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    running: list[Program] = []
    with tempfile.TemporaryDirectory(prefix="aimass-far-") as folder:
        try:
            env = dict(os.environ)
            for name in names:
                _start(name, Path(folder), running, env)
            ended = _test(rest or ["-q", "-rs", "-m", "far"], env)
        finally:
            for program in reversed(running):
                program.stop()
    # The journeys bring servers of their own, which they may kill.
    whole = not rest and len(running) == len(NAMES)
    walked = _test(["-q", *JOURNEYS], dict(os.environ) | {"AIMASS_TEST_LAYOUT": "far"}) if whole else 0
    return ended or walked


def _test(arguments: list[str], env: dict[str, str]) -> int:
    command = [sys.executable, "-m", "pytest", *arguments]
    ended = subprocess.run(command, env=env, check=False).returncode
    if ended != pytest.ExitCode.TESTS_FAILED:
        return ended
    print("FAILED ONCE: what is above; these tests run again now", flush=True)
    command += ["--last-failed", "--last-failed-no-failures=none"]
    return subprocess.run(command, env=env, check=False).returncode


def _start(name: str, folder: Path, running: list[Program], env: dict[str, str]) -> None:
    variable, began = f"AIMASS_TEST_{name.upper()}", time.monotonic()
    if env.get(variable):
        print(f"{name}: {variable} is set", flush=True)
        return
    try:
        running.append(make(name, folder / name).start())
    except (Missing, OSError, subprocess.SubprocessError) as error:
        print(f"{name}: cannot be had: {error}", flush=True)
        return
    env[variable] = running[-1].address
    env |= {f"AIMASS_TEST_{door.upper()}": where for door, where in running[-1].doors.items()}
    print(f"{name}: started in {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server is left behind
    sys.exit(main(sys.argv[1:]))
