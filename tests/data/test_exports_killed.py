"""kill -9 of a service that writes into a database of somebody else: the rows are there once, and its file is whole."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from aimass.v1 import operations_pb2
from tests.data.killed_writes import POINTS, ROWS
from tests.data.test_exports_written import rows
from tests.data.test_extractions_crash import ROOT
from tests.data.test_partitions import ended
from tests.support.house import house


@pytest.mark.parametrize("point", POINTS)
async def test_a_write_of_a_service_that_was_killed_happens_once(tmp_path: Path, point: str) -> None:
    command = sys.executable, "-m", "tests.data.killed_writes", str(tmp_path), point
    pipe = asyncio.subprocess.PIPE
    died = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, cwd=ROOT)
    name, said = await asyncio.wait_for(died.communicate(), 120)
    assert died.returncode == -signal.SIGKILL, said.decode()

    async with house(tmp_path, "data", AIMASS_DISK_PERCENT="100") as running:
        operation = await ended(running, name.decode().strip())
        assert operation.state == operations_pb2.OPERATION_STATE_SUCCEEDED, operation.error
        assert rows(running, "SELECT count(*) FROM flights") == [(ROWS,)]
        assert rows(running, "SELECT row_count FROM aimass_writes") == [(ROWS,)]
