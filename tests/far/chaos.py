"""Bad days, on purpose: `python -m tests.far.chaos SCENARIO [--times N] [--seconds S] [--writes W] [--predictions P]`.

Each scenario starts a fleet on real servers, puts it under an open-loop load, breaks something, and then judges the
history from outside. It prints what it saw, and ends with 1 when a promise did not hold.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.far.history import Line, judge, summary
from tests.support.fleet import Fleet, Loading, Unit, fleet
from tests.support.models import logistic
from tests.support.server import free_ports
from tests.support.servers import NAMES

COLUMNS = 8
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, COLUMNS], "data": [0.25] * COLUMNS}]})
WRITES = [
    {"kind": "model", "method": "POST", "path": "/v1/models", "body": '{"model": "load-{n}"}'},
    {"kind": "tenant", "method": "POST", "path": "/v1/tenants", "body": '{"tenant": "load-{n}"}'},
    {
        "kind": "source",
        "method": "POST",
        "path": "/v1/sources",
        "body": '{"source": "load-{n}", "files": {"upload_digest": "{digest}", "format": "FILE_FORMAT_CSV"}}',
    },
    {
        "kind": "subscription",
        "method": "POST",
        "path": "/v1/subscriptions",
        "body": '{"subscription": "load-{n}", "filter": "kind:nothing", "webhook": {"url": "http://127.0.0.1:9/load"}}',
    },
]
SETTINGS = {
    "AIMASS_GATEWAY_RATE": "1000000",
    "AIMASS_GATEWAY_BURST": "1000000",
    "AIMASS_LOG_LEVEL": "WARNING",
    "AIMASS_EGRESS_ALLOW": "127.0.0.1:9",
    "AIMASS_TRAINER_WORKERS": "0",
}


@dataclass
class Day:
    """A fleet, and the load that it is put under."""

    fleet: Fleet
    writes: float
    predictions: float
    folder: Path
    count: int = 0
    digest: str = ""

    def prepare(self) -> None:
        """A released model to ask, and an upload that sources name."""
        with self.fleet.client() as client:
            self.digest = client.upload(b"id,late\n1,0\n").digest
            graph = self.folder / "chaos.onnx"
            graph.write_bytes(logistic(COLUMNS))
            uploaded = client.upload(graph, to="artifacts")
            client.models.create_model(model="chaos")
            files = [{"name": "model.onnx", "digest": uploaded.digest}]
            client.models.create_model_version(model="chaos", files=files)
            client.releases.promote_version(model="chaos", version=1).wait()

    def load(self, seconds: float = 3600.0, waiting: int = 0) -> Loading:
        """Begins the load, with so many silent connections and streams on each door."""
        self.count += 1
        return Loading(
            {
                "doors": [list(door) for door in self.fleet.doors],
                "key": self.fleet.key,
                "history": str(self.folder / f"history-{self.count}.jsonl"),
                "seconds": seconds,
                "run": f"{self.count}-",
                "writes": [{**write, "body": write["body"].replace("{digest}", self.digest)} for write in WRITES],
                "writes_per_second": self.writes,
                "predict": "/v2/models/chaos/infer",
                "body": BODY,
                "predictions_per_second": self.predictions,
                "grpc": [f"127.0.0.1:{unit.grpc}" for unit in self.fleet.of("gateway")],
                "waiting": waiting,
            }
        )

    def judge(self, history: list[Line]) -> list[str]:
        """Prints what came of it; says what is wrong."""
        print(f"  {summary(history)}\n  {summary(history, 'write')}", flush=True)
        with self.fleet.client() as client:
            return judge(client, history)


def kills(day: Day, times: int, seconds: float) -> list[str]:
    """kill -9 of each process under load, `times` times each; all ready again within three seconds.

    Whoever asks the only gateway just then gets no answer: that alone is no broken promise.
    """
    load, slow = day.load(), list[str]()
    time.sleep(3)
    for unit in list(day.fleet.units):
        took = []
        for _ in range(times):
            unit.kill()
            unit.start()
            took.append(unit.wait())
            time.sleep(seconds)
        took.sort()
        print(f"  {unit.name}: {times} kills, ready again after {took[len(took) // 2]:.2f} s, at most {took[-1]:.2f} s")
        slow += [f"{unit.name} was ready only after {took[-1]:.1f} s"] if took[-1] > 3 else []
    time.sleep(3)
    return slow + [said for said in day.judge(load.stop()) if "without an answer" not in said]


def away(server: str, freeze: bool = False) -> Callable[[Day, int, float], list[str]]:
    """A server that is stopped for some seconds under load, and comes back."""

    def scenario(day: Day, times: int, seconds: float) -> list[str]:
        load, program = day.load(), day.fleet.servers[server]
        time.sleep(5)
        phases = [("before", time.time() - 5)]
        for _ in range(times):
            phases.append((f"{server} away", time.time()))
            program.freeze() if freeze else program.stop()
            time.sleep(seconds)
            program.thaw() if freeze else program.start()
            phases.append((f"{server} back", time.time()))
            time.sleep(10)
        history = load.stop()
        for (name, start), (_, end) in zip(phases, [*phases[1:], ("", time.time())], strict=True):
            during = [line for line in history if start <= line["at"] < end]
            print(f"  {name}: {summary(during)}\n    {summary(during, 'write')}")
        return day.judge(history)

    return scenario


def rolling(day: Day, times: int, seconds: float) -> list[str]:
    """Restarts of every process, one after the other, under load: no failed request.

    The log centre has one home and so no successor beside it: what it alone answers is sent again meanwhile.
    """
    load, spans = day.load(waiting=4), list[tuple[str, float, float]]()
    time.sleep(3)
    for number in range(times):
        for unit in list(day.fleet.units):
            began = time.time()
            renew(day.fleet, unit)
            spans.append((unit.name, began, time.time()))
        print(f"  round {number + 1} of {times}", flush=True)
    time.sleep(2)
    history = load.stop()
    failed = disturbed(history)
    for name, start, end in spans:
        if during := [line for line in failed if start <= line["at"] < end]:
            print(f"  {name} ({end - start:.1f} s): {len(during)} failed from {during[0]['at'] - start:.1f} s on")
            for words in sorted({f"{line['kind']} {line['status']} {line['said']}" for line in during}):
                print(f"    {words}")
    print(f"  {summary(history, 'silent')}\n  {summary(history, 'stream')}")
    said = [f"{len(failed)} requests of {len(history)} failed or had to be sent again"] if failed else []
    return said + day.judge(history)


def disturbed(history: list[Line]) -> list[Line]:
    """Requests that failed or had to be sent again, but for those that the log centre answers."""
    others = [line for line in history if line["kind"] != "subscription"]
    return [line for line in others if not 200 <= line["status"] < 300 or line["tries"] > 1]


def renew(there: Fleet, unit: Unit) -> None:
    """A successor is ready before the old process is asked to stop; a gateway's takes over its ports."""
    if unit.service == "logs":
        unit.stop()
        unit.start().wait()
        return
    (listen, observe) = free_ports(2)
    upper = unit.service.upper()
    env = unit.env | {f"AIMASS_{upper}_LISTEN": f"127.0.0.1:{listen}", "AIMASS_OBSERVE_LISTEN": f"127.0.0.1:{observe}"}
    home = unit.home.with_name(f"{unit.name}-{listen}") if unit.service != "gateway" else unit.home
    successor = Unit(
        unit.service, unit.number, home, env | {"AIMASS_HOME": str(home)}, listen, observe, unit.http, unit.grpc
    )
    successor.start().wait()
    there.units[there.units.index(unit)] = successor
    unit.stop()


def complain(there: Fleet) -> None:
    """Prints what the units themselves have to say of what went wrong."""
    for unit in there.units:
        for path in (unit.home / "logs").glob("*.log"):
            lines = [line for line in path.read_text(errors="replace").splitlines() if '"severity": "ERROR"' in line]
            for line in lines[-3:]:
                print(f"  {unit.name}: {line[:3000]}")


SCENARIOS: dict[str, tuple[Callable[[Day, int, float], list[str]], int, float]] = {
    "kills": (kills, 20, 0.5),
    "kafka": (away("kafka"), 1, 300),
    "redis": (away("redis"), 1, 60),
    "redis-frozen": (away("redis", freeze=True), 1, 60),
    "postgres": (away("postgres"), 1, 60),
    "postgres-frozen": (away("postgres", freeze=True), 1, 60),
    "triton": (away("triton"), 3, 2),
    "rolling": (rolling, 10, 0),
}


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--times", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--writes", type=float, default=200)
    parser.add_argument("--predictions", type=float, default=500)
    parser.add_argument("--units", default="", help="service=count,...")
    arguments = parser.parse_args()
    scenario, times, seconds = SCENARIOS[arguments.scenario]
    counts = {
        name: int(count) for name, _, count in (pair.partition("=") for pair in arguments.units.split(",") if pair)
    }
    reuse = {"AIMASS_GATEWAY_REUSE_PORT": "true"}
    with tempfile.TemporaryDirectory(prefix="aimass-chaos-") as folder:
        Path(folder).chmod(0o755)
        with fleet(Path(folder) / "home", NAMES, SETTINGS | reuse, synced=True, **counts) as there:
            day = Day(there, arguments.writes, arguments.predictions, Path(folder))
            day.prepare()
            print(
                f"{arguments.scenario}: {arguments.writes:g} writes/s, {arguments.predictions:g} predictions/s",
                flush=True,
            )
            wrong = scenario(day, arguments.times or times, seconds if arguments.seconds is None else arguments.seconds)
            if wrong:
                complain(there)
    for sentence in wrong:
        print(f"  WRONG: {sentence}")
    print("held" if not wrong else "did not hold")
    return 1 if wrong else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server is left behind
    sys.exit(main())
