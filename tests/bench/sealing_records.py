"""What sealing costs the log centre: microseconds of a processor for a record, plain and sealed, in turns.

`python -m tests.bench.sealing_records [rounds]`. "kept": decoded, packed, synced; "all": in the index as well. Nothing
is asserted. The last column is what sealing adds to keeping, as a part of all. The least of all rounds: others use the
machine as well.
"""

import asyncio
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.event import TELEMETRY
from services.kit.key_store import FolderKeys
from services.kit.secrets import Vault
from services.kit.telemetry import Record, child
from services.kit.telemetry.otlp import logs_with_tables, request
from services.kit.tenant_keys import TenantKeys
from services.kit.timestamps import uuid7
from services.logs.ingest.api import decode
from services.logs.ingest.segments import Segments
from services.logs.ingest.service import Ingest
from services.logs.search.index import Index
from services.logs.search.service import Search

KIND = "opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest"
TOGETHER = 8  # events that are kept at once


def prediction(tenant: str) -> Record:
    name = uuid7()
    own = {"request_id": name, "principal": "key:k", "model": "late", "version": 3, "status": 200, "duration_ms": 1.5}
    attributes = own | {"rows": 1, "scores": struct.pack("<d", 0.25)}
    return Record("prediction", "late", "", Scope(tenant), attributes, service="gateway", trace=child("", name))


def line(tenant: str) -> Record:
    own = {"request_id": uuid7(), "method": "POST", "path": "/v1/releases/late", "status": 200, "duration_ms": 1.5}
    return Record("log", "access", "POST /v1/releases/late 200", Scope(tenant), own, service="gateway")


def events(make: Callable[[str], Record], each: int, tenants: int, count: int) -> list[Event]:
    """Events of so many records of tenants in turn; with one record each, of one tenant each."""
    batches = []
    for at in range(count):
        body = request(logs_with_tables([make(f"tenant-{(at + number) % tenants}") for number in range(each)]))
        batches.append(Event(TELEMETRY, "logs", body, {"ce_id": uuid7(), "ce_type": KIND}))
    return batches


SHAPES = {
    "1000 predictions of a tenant in an event": (prediction, 1000, 1, 30),
    "1000 predictions of 20 tenants in an event": (prediction, 1000, 20, 30),
    "500 lines of a tenant in an event": (line, 500, 1, 30),
    "500 lines of 20 tenants in an event": (line, 500, 20, 30),
    "one line in an event, of 20 tenants": (line, 1, 20, 1600),
}


async def once(home: Path, given: Sequence[Event], sealed: bool, search: bool) -> float:
    """Seconds of a processor for all of them."""
    keys = TenantKeys(FolderKeys(home / "keys"), Vault(home)) if sealed else None
    ingest = Ingest(Segments(home / "records"), keys=keys)
    await ingest.open()
    index = Search(ingest, Index(home / "index")) if search else None
    following = asyncio.create_task(index.follow()) if index else None
    await ingest.append(decode(given[-20:])[0])  # keys of all tenants are there, threads as well
    began = time.process_time()
    for start in range(0, len(given) - 20, TOGETHER):
        batches, _ = decode(given[start : min(start + TOGETHER, len(given) - 20)])
        await ingest.append(batches)
    if index and following:
        while index._index._next != ingest.sequence:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.7)  # a commit
    spent = time.process_time() - began
    if index and following:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await index.close()
    ingest.close()
    return spent


async def main(rounds: int) -> None:
    """Prints the least of all rounds."""
    print(f"microseconds of a processor for a record, least of {rounds}")
    for name, (make, each, tenants, count) in SHAPES.items():
        found: dict[tuple[bool, bool], list[float]] = {}
        for number in range(rounds):
            given = events(make, each, tenants, count + 20)
            for sealed in (False, True) if number % 2 else (True, False):
                for search in (False, True):
                    with tempfile.TemporaryDirectory(prefix="aimass-sealing-") as folder:
                        spent = await once(Path(folder), given, sealed, search)
                    found.setdefault((sealed, search), []).append(spent / (each * count) * 1e6)
        kept, whole = ([min(found[sealed, search]) for sealed in (False, True)] for search in (False, True))
        figures = f"kept {kept[0]:6.1f} -> {kept[1]:6.1f}   all {whole[0]:6.1f} -> {whole[1]:6.1f}"
        print(f"  {name:44}{figures}   {(kept[1] - kept[0]) / whole[0]:+.1%}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
