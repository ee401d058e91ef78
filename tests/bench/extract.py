"""Work on large data through our jobs: the flights of a year ten times over, beside engines by hand; memory; log lines.

`python -m tests.bench.extract [--times 10] [--rounds 3] [--lines 10000000] [--memory 320]`. Extract is a CSV file into
a data set, join a pipeline that joins planes and writes a version, group a query. Each engine does the same by hand, in
an environment of its own; what cannot be had here is said. Then a pipeline runs over a data set four times larger than
its memory limit, and log lines become a table by the rule that is found for them. Nothing is asserted.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.csv as csv
import pyarrow.parquet as pq
from google.protobuf.json_format import ParseDict

from aimass.v1 import datasets_pb2, extractions_pb2, operations_pb2, pipelines_pb2, rules_pb2, sources_pb2
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from aimass.v1.pipelines_pb2_grpc import PipelinesStub
from aimass.v1.rules_pb2_grpc import RulesStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from tests.bench import flown
from tests.bench.engines.tasks import GROUP, JOIN
from tests.bench.others import Other, environment
from tests.data import places
from tests.data.extracting import Tenant
from tests.data.tables import add
from tests.support.house import House, house
from tests.support.servers import Missing

ENGINES = Path(__file__).parent / "engines"
OTHERS = (
    Other("DuckDB", ("duckdb",), "duck.py", 0, ""),
    Other("Polars", ("polars",), "polar.py", 0, ""),
    Other("Daft", ("daft",), "daft_native.py", 0, ""),
)
TASKS = ("extract", "join", "group")
TEXTS = ("carrier", "tailnum", "origin", "dest")
NUMBERS = ("id", "month", "day", "hour", "dep_delay", "arr_delay", "distance")
_FIRST = datetime(2026, 3, 1)
Timed = dict[str, tuple[float, float]]


async def ended(home: House, begun: Any) -> float:
    """Waits for the end of an operation; the seconds that it took. Raises RuntimeError when it failed."""
    began = time.perf_counter()
    name, tenant = (await begun).operation, Tenant(home)
    while not (done := await tenant.ended(name)).HasField("end_time"):
        pass
    if done.state != operations_pb2.OPERATION_STATE_SUCCEEDED:
        raise RuntimeError(f"the work failed: {done.error.detail}")
    return time.perf_counter() - began


def _rule(name: str, kind: str, optional: bool = True) -> dict[str, Any]:
    return {"name": name, "type": f"COLUMN_TYPE_{kind}", "required": not optional}


async def source(home: House, name: str, kind: Mapping[str, Any], definition: rules_pb2.RuleDefinition) -> None:
    """A source and an active rule on it, both of this name."""
    sources, rules = home.stub(SourcesStub, "data"), home.stub(RulesStub, "data")
    await sources.CreateSource(ParseDict({"source": name, "files": kind}, sources_pb2.CreateSourceRequest()))
    await rules.CreateRule(rules_pb2.CreateRuleRequest(rule=name, source=name, definition=definition))
    await rules.ActivateRule(rules_pb2.ActivateRuleRequest(rule=name, version=1))


async def pipeline(home: House, name: str, sql: str, *inputs: str) -> Awaitable[Any]:
    """Begins the run of a pipeline of one step."""
    stub = home.stub(PipelinesStub, "data")
    step = pipelines_pb2.PipelineStep(data_set=f"{name}-made", sql=sql, inputs=inputs)
    await stub.CreatePipeline(pipelines_pb2.CreatePipelineRequest(pipeline=name, steps=[step]))
    begun: Awaitable[Any] = stub.RunPipeline(pipelines_pb2.RunPipelineRequest(pipeline=name))
    return begun


async def ours(folder: Path, work: Path) -> Timed:
    """Seconds by task, of a new installation."""
    found, columns = Timed(), [_rule(n, "INT64") for n in NUMBERS] + [_rule(n, "STRING") for n in TEXTS]
    home = folder / f"home-{time.monotonic_ns()}"
    os.link(work / "flights.csv", places.folder(home) / "flights.csv")
    async with house(home, "data", AIMASS_DATA_HOT_TABLES_MIB="0") as running:
        await add(running, "planes", flown.planes())
        kind = {"pattern": "flights.csv", "format": "FILE_FORMAT_CSV"}
        rule = ParseDict({"file": {"columns": columns}}, rules_pb2.RuleDefinition())
        await source(running, "flights", kind, rule)
        request = extractions_pb2.RunExtractionRequest(rule="flights")
        for name in TASKS:
            used = os.times()
            if name == "extract":
                took = await ended(running, running.stub(ExtractionsStub, "data").RunExtraction(request))
            elif name == "join":
                took = await ended(running, await pipeline(running, "join", JOIN, "flights", "planes"))
            else:
                took = await asked(running, GROUP)
            now = os.times()
            children = now.children_user + now.children_system - used.children_user - used.children_system
            found[name] = took, children + now.user + now.system - used.user - used.system
    return found


async def asked(home: House, sql: str) -> float:
    """The seconds of a query."""
    request = datasets_pb2.QueryDataSetsRequest(sql=sql, tables=[datasets_pb2.QueryTable(data_set="flights")])
    began = time.perf_counter()
    await home.stub(DataSetsStub, "data").QueryDataSets(request)
    return time.perf_counter() - began


def by_hand(python: Path | str, script: str, work: Path) -> Timed:
    """The same by an engine. Raises Missing."""
    module = ["-m", "tests.bench.engines.fusion"] if script == "fusion.py" else [str(ENGINES / script)]
    done = subprocess.run([str(python), *module, str(work)], capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        raise Missing(f"it fails: {done.stderr.strip()[-200:]}")
    return {name: (took, used) for name, (took, used) in json.loads(done.stdout.splitlines()[-1]).items()}


def written(work: Path, times: int) -> int:
    """The raw data of all: CSV files and planes as Parquet. Returns the rows."""
    table = flown.flights(times)
    csv.write_csv(table, work / "flights.csv", csv.WriteOptions(quoting_style="none"))
    (work / "planes").mkdir()
    pq.write_table(flown.planes(), work / "planes" / "planes.parquet")
    return int(table.num_rows)


async def compare(folder: Path, times: int, rounds: int) -> None:
    """Our jobs and the engines, in turns."""
    work = folder / "work"
    work.mkdir()
    count, found = written(work, times), defaultdict[str, list[Timed]](list)
    hands: dict[str, tuple[Path | str, str]] = {"its engines by hand": (sys.executable, "fusion.py")}
    for other in OTHERS:
        try:
            hands[other.name] = environment(other), other.script
        except Missing as missing:
            print(f"{other.name}: not to be had, {missing}", flush=True)
    for _ in range(rounds):
        found["AI Mass"].append(await ours(folder, work))
        for name, (python, script) in list(hands.items()):
            try:
                found[name].append(await asyncio.to_thread(by_hand, python, script, work))
            except Missing as missing:
                print(f"{name}: not to be had, {missing}", flush=True)
                del hands[name]
    print(f"{count:,} rows, medians of {rounds}: seconds (seconds of processors)")
    ours_, whole = found["AI Mass"], dict[str, float]()
    for name, runs in found.items():
        cells = []
        for task in TASKS:
            took, used = (statistics.median(run[task][part] for run in runs) for part in (0, 1))
            ratio = statistics.median(run[task][0] for run in ours_) / took
            cells.append(f"{task} {took:6.2f} ({used:6.2f}) ours/its {ratio:4.2f}")
        whole[name] = statistics.median(sum(run[task][0] for task in TASKS) for run in runs)
        print(
            f"  {name:20} {'   '.join(cells)}   all {whole[name]:6.2f} ours/its {whole['AI Mass'] / whole[name]:4.2f}"
        )


async def bounded(folder: Path, mib: int) -> None:
    """A pipeline and a query over a data set four times larger than their memory limit."""
    limits = {"AIMASS_DATA_PIPELINE_MEMORY_MIB": str(mib), "AIMASS_DATA_QUERY_MEMORY_MIB": str(mib)}
    table = flown.flights(1)
    times = -(-4 * mib * 2**20 // table.nbytes)
    async with house(folder / "bounded", "data", AIMASS_DATA_HOT_TABLES_MIB="0", **limits) as running:
        await add(running, "planes", flown.planes())
        for _ in range(times):
            await add(running, "flights", table, append=True)
        print(f"{table.nbytes * times / 2**20:.0f} MiB of rows under a limit of {mib} MiB", flush=True)
        for name, sql in (("join", JOIN), ("group", GROUP)):
            try:
                took = await ended(
                    running, await pipeline(running, name, sql, *("flights", "planes")[: 2 - (name == "group")])
                )
                print(f"  {name}: done in {took:.1f} s", flush=True)
            except RuntimeError as error:
                print(f"  {name}: {error}", flush=True)


def log_lines(path: Path, count: int) -> None:
    """A log of a service that nobody described: one format, values of its own in each line."""
    chance = random.Random(2026)
    block = []
    for _ in range(100_000):
        host, took, size = chance.randint(1, 40), chance.random() * 900, chance.randint(200, 90_000)
        path_, status = f"/v1/orders/{chance.randint(1, 99999)}", chance.choice((200, 200, 200, 404, 503))
        block.append((f"web-{host}", path_, status, took, size))
    with open(path, "w") as file:
        for number in range(count):
            host_, path_, status, took, size = block[number % len(block)]
            stamp = (_FIRST + timedelta(seconds=number // 100)).strftime("%Y-%m-%dT%H:%M:%SZ")
            file.write(f"{stamp} INFO {host_} served GET {path_} with {status} in {took:.1f} ms, {size} bytes\n")


async def logs(folder: Path, count: int) -> None:
    """Log lines into a table, by the best rule that is proposed for them."""
    home = folder / "logs"
    log_lines(places.folder(home) / "web.log", count)
    async with house(home, "data") as running:
        stub = running.stub(RulesStub, "data")
        kind = {"pattern": "web.log", "format": "FILE_FORMAT_TEXT"}
        request = ParseDict({"source": "web", "files": kind}, sources_pb2.CreateSourceRequest())
        await running.stub(SourcesStub, "data").CreateSource(request)
        proposal = (await stub.DiscoverRules(rules_pb2.DiscoverRulesRequest(source="web"))).proposals[0]
        await stub.CreateRule(rules_pb2.CreateRuleRequest(rule="web", source="web", definition=proposal.definition))
        await stub.ActivateRule(rules_pb2.ActivateRuleRequest(rule="web", version=1))
        run = extractions_pb2.RunExtractionRequest(rule="web")
        took = await ended(running, running.stub(ExtractionsStub, "data").RunExtraction(run))
        found = await running.stub(DataSetsStub, "data").GetDataSetVersion(
            datasets_pb2.GetDataSetVersionRequest(data_set="web")
        )
        columns = ", ".join(column.name for column in found.schema.columns)
        print(f"{count:,} log lines: {found.rows:,} rows of {columns} in {took:.1f} s, {count / took:,.0f} lines/s")


async def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("times", 10), ("rounds", 3), ("lines", 10_000_000), ("memory", 320)):
        parser.add_argument(f"--{name}", type=int, default=default)
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        await compare(Path(folder), said.times, said.rounds)
        await bounded(Path(folder), said.memory)
        await logs(Path(folder), said.lines)


if __name__ == "__main__":
    asyncio.run(main())
