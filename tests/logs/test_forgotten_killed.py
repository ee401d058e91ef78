"""Forgetting, killed at every place (RELIABILITY R2): others lose nothing, and the next process ends it."""

import asyncio
import sys
from pathlib import Path

from tests.support.server import ROOT


async def test_wherever_forgetting_is_killed_others_lose_nothing_and_the_next_process_ends_it(tmp_path: Path) -> None:
    sweeping = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.logs.forgetting", str(tmp_path)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, wrong = await sweeping.communicate()

    assert sweeping.returncode == 0, wrong.decode()[-3000:]
    assert int(output) >= 50, "places: files of records, the index, the note"
