"""The containers, tried: `python -m tests.far.compose [pytest arguments]`.

Brings a stack of its own up, walks the main job through it, kills its containers one by one under a light load, scales
it, renews its certificates, sends a stranger to its servers, takes it down, and says what came of each.
`make test-compose` builds the image before. Without a container engine it says so and is skipped.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.far.compose_load import Load
from tests.support.containers import Stack
from tests.support.images import composes, engine
from tests.support.server import ROOT

STATELESS = ("registry", "data", "trainer", "inference")
SERVERS = ("redis", "triton", "s3", "kafka", "postgres")
_LINGER = 3.0  # seconds of load before and after something goes wrong


class Report:
    """What was tried, how it went and how long it took; printed as it happens."""

    def __init__(self) -> None:
        self.failed = 0

    def run(self, name: str, work: Callable[[], str]) -> None:
        """One trial; a failed one does not keep the others from happening."""
        began = time.monotonic()
        try:
            outcome, verdict = work(), "held"
        except (AssertionError, subprocess.SubprocessError, OSError) as error:
            outcome, verdict = str(error).strip()[-1500:], "FAILED"
            self.failed += 1
        print(f"{verdict:<6} {time.monotonic() - began:7.1f} s  {name}: {outcome}", flush=True)


def story(stack: Stack, arguments: Sequence[str]) -> str:
    """The journey of the main job; the model that it leaves answers what the load asks."""
    env = os.environ | {"AIMASS_TEST_LAYOUT": "compose", "AIMASS_TEST_STACK": stack.note()}
    command = [sys.executable, "-m", "pytest", "-q", "-x", *(arguments or ["tests/journeys/test_story.py"])]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout.strip().splitlines()[-1]


def killed(stack: Stack, service: str) -> str:
    """A container's program is killed under load: it comes back by itself, and nothing acknowledged is lost."""
    with Load(stack) as load:
        time.sleep(_LINGER)
        stack.crash(service)
        time.sleep(1)
        seconds = stack.healthy(service)
        time.sleep(_LINGER)
    return f"healthy again after {seconds:.1f} s; {load.judged()}"


def one_of_two(stack: Stack, service: str) -> str:
    """One of two containers is killed for good: nobody notices."""
    with Load(stack) as load:
        time.sleep(_LINGER)
        victim = stack.containers(service)[0]
        subprocess.run(["docker", "kill", victim], capture_output=True, check=True, timeout=60)
        time.sleep(2 * _LINGER)
    verdict = load.judged()
    assert not load.failures, f"{verdict}: {load.failures[:3]}"
    stack.compose("up", "--detach", "--wait", "--scale", "gateway=2", "--scale", "inference=2")
    return verdict


def scaled(stack: Stack) -> str:
    """Two gateways at one address, two of inference behind them."""
    stack.compose("up", "--detach", "--wait", "--scale", "gateway=2", "--scale", "inference=2")
    counts = {service: len(stack.containers(service)) for service in ("gateway", "inference")}
    assert counts == {"gateway": 2, "inference": 2}, counts
    with Load(stack) as load:
        time.sleep(_LINGER)
    assert not load.failures, load.failures[:3]
    return f"{counts}; {load.judged()}"


def renewed(stack: Stack) -> str:
    """New certificates for all while the load goes on: every server shows its own, and only Triton is started again."""
    before = stack.starts()
    with Load(stack) as load:
        shown = stack.renew()
        time.sleep(3 * _LINGER)
    after = stack.starts()
    again = [name for name in before if before[name] != after[name]]
    assert [name for name in again if "-triton-" not in name] == [], again
    assert {line.partition(":")[0] for line in shown.splitlines() if " until " in line} == set(SERVERS), shown
    failed = [failure for failure in load.failures if not failure.startswith("prediction: unavailable")]
    assert not failed, failed[:3]
    return load.judged()


def strange(stack: Stack) -> str:
    """Who has every password but no certificate, on the servers' network, is let in by none of them."""
    inside = ["--entrypoint", "python", "--volume", f"{ROOT / 'tests/far/stranger.py'}:/stranger.py:ro"]
    done = stack.compose("run", "--rm", "-T", "--no-deps", *inside, "backup", "/stranger.py")
    answers = dict(line.split(": ", 1) for line in done.splitlines())
    assert answers.keys() == set(SERVERS), done
    assert "in" not in answers.values(), done
    assert "requires a valid client certificate" in answers["postgres"], done
    return "; ".join(f"{server}: {answer}" for server, answer in answers.items())


def rolled(stack: Stack, service: str) -> str:
    """A service is started again under load, one container after the other."""
    with Load(stack) as load:
        time.sleep(1)
        for container in stack.containers(service):
            subprocess.run(["docker", "restart", "-t", "40", container], capture_output=True, check=True, timeout=90)
            stack.healthy(service)
        time.sleep(_LINGER)
    verdict = load.judged()
    assert not load.failures, f"{verdict}: {load.failures[:3]}"
    return verdict


def emptied(stack: Stack) -> str:
    """Down, with its volumes."""
    stack.remove()
    left = ["docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={stack.project}"]
    found = subprocess.run(left, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert not found, f"{len(found)} containers are left"
    return "nothing is left"


def main(arguments: list[str]) -> int:
    """How many trials failed; 0 without an engine and its compose."""
    if not engine() or not composes():
        print("skipped: no container engine answers, or it has no compose")
        return 0
    report, began = Report(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="aimass-compose-") as folder:
        stack = Stack(Path(folder) / "stack")
        try:
            report.run("start", lambda: f"healthy: {stack.start().url}")
            report.run("the main job", lambda: story(stack, arguments))
            for service in (*STATELESS, "logs", *SERVERS, "gateway"):
                report.run(f"kill -9 of {service}", lambda service=service: killed(stack, service))  # type: ignore[misc]
            report.run("scale", lambda: scaled(stack))
            for service in ("gateway", "inference"):
                report.run(f"one of two {service}", lambda service=service: one_of_two(stack, service))  # type: ignore[misc]
                report.run(f"rolling restart of {service}", lambda service=service: rolled(stack, service))  # type: ignore[misc]
            report.run("new certificates", lambda: renewed(stack))
            report.run("a stranger", lambda: strange(stack))
        finally:
            report.run("down", lambda: emptied(stack))
    print(f"{report.failed} of the trials failed, {time.monotonic() - began:.0f} s", flush=True)
    return min(report.failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
