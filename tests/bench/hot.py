"""What tables in memory save: the same queries from files and from memory, through the RPC.

`python -m tests.bench.hot [times the flights of a year] [rounds]`. Nothing is asserted: it prints medians, the ratio,
the memory that the tables take, and the hit rate.
"""

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

from aimass.v1 import datasets_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from services.kit.telemetry.metrics import exposition
from tests.bench.flown import flights
from tests.data.tables import add
from tests.support.house import House, house

QUERIES = {
    "group by": "SELECT carrier, count(*) AS n, avg(arr_delay) AS late FROM flights GROUP BY carrier ORDER BY carrier",
    "filter": "SELECT count(*) AS n FROM flights WHERE origin = 'JFK' AND arr_delay > 60",
    "top": "SELECT tailnum, sum(distance) AS far FROM flights GROUP BY tailnum ORDER BY far DESC LIMIT 10",
}


async def timed(home: House, sql: str) -> float:
    """Seconds of one query."""
    request = pb.QueryDataSetsRequest(sql=sql, tables=[pb.QueryTable(data_set="flights")])
    began = time.perf_counter()
    await home.stub(DataSetsStub, "data").QueryDataSets(request)
    return time.perf_counter() - began


def measured(name: str) -> float:
    """A metric of this process."""
    return sum(float(line.split()[-1]) for line in exposition().decode().splitlines() if line.startswith(name))


async def main() -> None:
    """Measures and prints."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    table, found = flights(times), dict[tuple[str, str], list[float]]()
    with tempfile.TemporaryDirectory() as folder:
        for where, most in (("files", "0"), ("memory", "2048")):
            async with house(Path(folder) / where, "data", AIMASS_DATA_HOT_TABLES_MIB=most) as home:
                await add(home, "flights", table)
                for sql in itertools.chain(*[QUERIES.values()] * 2):
                    await timed(home, sql)
                for _, (name, sql) in itertools.product(range(rounds), QUERIES.items()):
                    found.setdefault((name, where), []).append(await timed(home, sql))
                size = measured("aimass_hot_table_bytes") / 2**20
    print(f"{table.num_rows:,} rows, {size:.0f} MiB of them in memory, medians of {rounds}")
    for name in QUERIES:
        files, memory = (statistics.median(found[name, where]) for where in ("files", "memory"))
        print(f"  {name:10} files {files * 1000:6.0f} ms, memory {memory * 1000:6.0f} ms, ratio {files / memory:.1f}")
    reads = {kind: measured(f'aimass_hot_table_reads_total{{found="{kind}"}}') for kind in ("hit", "loaded", "cold")}
    cold = reads["cold"] - len(QUERIES) * (rounds + 2)  # of the service without memory
    print(f"  hit rate {reads['hit'] / (reads['hit'] + reads['loaded'] + cold):.2f}")


if __name__ == "__main__":
    asyncio.run(main())
