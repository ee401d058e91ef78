"""What the child that lands keeps in memory, and the one that reads what landed."""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from services.data.reading.connector_landed import LandedConnector
from services.data.reading.connectors import connector
from services.data.reading.folders import Place
from services.data.reading.kinds import Compiled, FileFormat, FilesSource
from services.data.reading.landed import LandedRecords
from services.data.warehouse.work import LandingSink
from services.kit.child import Child

MIB = 2**20
COUNT, LARGE = 40, "x" * MIB  # records, and each of them


class Sizes:
    """A sink that only looks at what it is given at once."""

    def __init__(self) -> None:
        self.taken: list[list[str]] = []

    def take(self, ready: Any, records: Sequence[Any], origins: Sequence[str], fields: Sequence[str]) -> None:
        self.taken.append(list(records))

    def tell(self, fraction: float) -> None:
        """Is not asked."""


def test_large_records_are_landed_and_read_some_at_a_time(tmp_path: Path) -> None:
    source = FilesSource(FileFormat.TEXT, "*.log")
    (tmp_path / "run").mkdir()
    request = {"folder": str(tmp_path / "run"), "name": "s", "time": "2026-01-01T00:00:00+00:00", "after": 0}
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sink: Any = LandingSink(request, "line", Child(theirs))
        for number in range(COUNT):
            sink.take(None, [LARGE], [f"a.log:{number}"], ())
        (file,) = sink.close()["files"]
    with pq.ParquetFile(tmp_path / file["path"]) as written:
        groups = [written.metadata.row_group(n).num_rows for n in range(written.num_row_groups)]
    assert (sum(groups), max(groups) < COUNT) == (COUNT, True)

    found: Any = Sizes()
    landed = LandedConnector(LandedRecords(source, (file["path"],), 0, COUNT), connector(source))
    assert landed.read(Place(tmp_path, ()), Compiled(()), {}, found, 30.0).cursor == {"landed": COUNT}
    part = LandedConnector(LandedRecords(source, (file["path"],), 0, COUNT, partly=True), connector(source))
    some: Any = Sizes()
    end = part.read(Place(tmp_path, ()), Compiled(()), {}, some, 0.0).cursor["landed"]  # its time is up at once
    assert 0 < end < COUNT
    assert sum(map(len, some.taken)) == end
    rest = LandedConnector(LandedRecords(source, (file["path"],), end, COUNT, partly=True), connector(source))
    assert rest.read(Place(tmp_path, ()), Compiled(()), {}, some, 30.0).cursor == {"landed": COUNT}
    assert sum(map(len, some.taken)) == COUNT
    assert max(len(page) for page in found.taken) <= 8
    assert [record for page in found.taken for record in page] == [LARGE] * COUNT
