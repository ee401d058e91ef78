"""Starts real servers and runs tests against them: `python -m tests.far [server ...] [-- pytest arguments]`.

All servers if none is named, every far and contract test and then the journeys if no arguments are given: in two lanes,
each with servers of its own. What cannot be had is said, and its tests are skipped. What fails is run once more, in one
lane, and both runs are shown: who fails twice fails. Who failed once is named.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.servers import NAMES, Missing, Program, make

JOURNEYS = ("tests/journeys/test_story.py", "tests/journeys/test_crash.py", "tests/journeys/test_tenancy.py")
LANES = 2  # most tests wait: two at a time take half as long, on two processors as well


def main(arguments: list[str]) -> int:
    """The tests' exit status."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    names, rest = arguments[:split] or list(NAMES), arguments[split + 1 :]
    if unknown := sorted(set(names) - set(NAMES)):
        print(f"no such server: {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    given = [name for name in names if os.environ.get(_variable(name))]
    for name in given:
        print(f"{name}: {_variable(name)} is set", flush=True)
    lanes = 1 if rest or given else LANES
    made = list[Program]()
    with tempfile.TemporaryDirectory(prefix="aimass-far-") as folder:
        try:
            for name in names:
                if name not in given:
                    made += _made(name, Path(folder), lanes)
            running = _started(made)
            lanes = min([len(of) for of in running.values()], default=1)
            ended = _test(rest or ["-q", "-rs", "-m", "far"], dict(os.environ) | _said(running), lanes)
        finally:
            for program in reversed(made):
                program.end()
    # The journeys bring servers of their own, which they may kill.
    whole = not rest and len(running) == len(NAMES)
    walked = _test(["-q", *JOURNEYS], dict(os.environ) | {"AIMASS_TEST_LAYOUT": "far"}, lanes) if whole else 0
    return ended or walked


def _variable(name: str) -> str:
    return f"AIMASS_TEST_{name.upper()}"


def _test(arguments: list[str], env: dict[str, str], lanes: int) -> int:
    with tempfile.TemporaryDirectory(prefix="aimass-failed-") as folder:
        noted = "no:cacheprovider" not in arguments
        # What failed in other runs is not known here.
        command = [sys.executable, "-m", "pytest", *arguments, *(("-o", f"cache_dir={folder}") if noted else ())]
        beside = ["-n", str(lanes), "--dist", "loadscope", "--no-loadscope-reorder"] if lanes > 1 else []
        ended = subprocess.run([*command, *beside], env=env, check=False).returncode
        if ended != pytest.ExitCode.TESTS_FAILED or not noted:
            return ended
        failed = json.loads((Path(folder) / "v/cache/lastfailed").read_bytes())
        print("FAILED ONCE, and run again now:", *sorted(failed), sep="\n  ", flush=True)
        command += ["--last-failed", "--last-failed-no-failures=none"]
        return subprocess.run(command, env=env, check=False).returncode


def _made(name: str, folder: Path, lanes: int) -> list[Program]:
    """One for each lane, not started; none when it cannot be had."""
    try:
        return [make(name, folder / str(lane) / name) for lane in range(lanes)]
    except (Missing, OSError, subprocess.SubprocessError) as error:
        print(f"{name}: cannot be had: {error}", flush=True)
        return []


def _started(made: Sequence[Program]) -> dict[str, list[Program]]:
    """Those that answer, by name."""
    found: dict[str, list[Program]] = {}
    with ThreadPoolExecutor(max(len(made), 1)) as pool:
        for program, answers in zip(made, pool.map(_start, made), strict=True):
            if answers:
                found.setdefault(program.name, []).append(program)
    return found


def _start(program: Program) -> bool:
    began = time.monotonic()
    try:
        program.start()
    except (Missing, OSError, subprocess.SubprocessError) as error:
        print(f"{program.name}: cannot be had: {error}", flush=True)
        return False
    print(f"{program.name}: started in {time.monotonic() - began:.1f} s", flush=True)
    return True


def _said(running: dict[str, list[Program]]) -> dict[str, str]:
    """Where they are, as `tests.support.servers.address` reads it."""
    variables = {_variable(name): " ".join(program.address for program in of) for name, of in running.items()}
    for of in running.values():
        variables |= {_variable(door): " ".join(program.doors[door] for program in of) for door in of[0].doors}
    return variables


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server is left behind
    sys.exit(main(sys.argv[1:]))
