"""Kills at chosen moments of a run that downloads: nothing is lost, doubled, or fetched again."""

import asyncio
import json
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from aimass.v1 import operations_pb2
from aimass.v1.attachments_pb2_grpc import AttachmentsStub
from tests.data.dying_downloads import POINTS
from tests.data.extracting import Tenant
from tests.data.test_attachments import content
from tests.support.downloads import SOURCE, Files, digest, listed, rule
from tests.support.house import house, until
from tests.support.storages import ALL, settings

ROOT = Path(__file__).parents[2]
PATHS = [f"/{number}" for number in range(30)]


class Web(Files):
    """Files of which one is waited for until it may come."""

    def __init__(self) -> None:
        super().__init__()
        self.may = threading.Event()
        self.files |= {path: f"file {path}".encode() for path in PATHS}
        self.files["/slow"] = self._slow

    def _slow(self, handler: Any) -> None:
        self.may.wait(60)
        handler.reply(200, b"slow")


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    with made:
        yield made
        made.may.set()


def noted(home: Path) -> int:
    """How many files a run has noted that came."""
    return sum(path.read_bytes().count(b'"kept"') for path in home.rglob("attachments-*/journal.jsonl"))


def blobs(home: Path) -> int:
    return sum(path.is_file() for path in (home / "blobs" / "acme").rglob("sha256/*/*"))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_run_goes_on_with_the_files_that_it_has(home: Path, web: Web, point: str, kind: str) -> None:
    env = settings(kind) | {"AIMASS_EGRESS_ALLOW": web.host}
    listed(home, [web.url(path) for path in (*PATHS, *PATHS, "/slow")])
    if point != "fetching":
        web.may.set()
    command = sys.executable, "-m", "tests.data.dying_downloads", str(home), point, json.dumps(env)
    died = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    if point == "fetching":
        await until(lambda: noted(home) == len(PATHS))
        died.kill()
    said, _ = await asyncio.wait_for(died.communicate(), 60)
    assert died.returncode == -signal.SIGKILL
    web.may.set()

    async with house(home, "data", **env) as running:
        acme = Tenant(running)
        done = await acme.ended(said.decode().strip())
        assert done.state == operations_pb2.OPERATION_STATE_SUCCEEDED, done
        rows = await acme.rows("photos")
        expected = [digest(f"file {path}".encode()) for path in (*PATHS, *PATHS)] + [digest(b"slow")]
        assert [row["photo_digest"] for row in rows] == expected
        assert {web.asked[path] for path in PATHS} == {1}, "what came was fetched again"
        assert web.asked["/slow"] == (2 if point == "fetching" else 1)
        asked = running.stub(AttachmentsStub, "data")
        assert [await content(asked, "photos", one) for one in expected[:3]] == [b"file /0", b"file /1", b"file /2"]
        assert not list(home.rglob("attachments-*"))
        if kind == "near":
            assert blobs(home) == len(PATHS) + 1, "something else is kept, too"
            with sqlite3.connect(home / "data.db") as database:
                assert database.execute("SELECT count(*) FROM attachment_file").fetchone() == (len(PATHS) + 1,)


async def test_a_file_that_is_damaged_before_it_is_kept_is_fetched_again(home: Path, web: Web) -> None:
    listed(home, [web.url("/0"), web.url("/slow")])
    async with house(home, "data", AIMASS_EGRESS_ALLOW=web.host) as running:
        acme = Tenant(running)
        await acme.rule("photos", SOURCE, rule())
        begun = await acme.begin("photos")
        await until(lambda: noted(home) == 1)
        (file,) = home.rglob("attachments-*/files/*")
        file.write_bytes(b"other")
        web.may.set()
        assert (await acme.ended(begun.operation)).state == operations_pb2.OPERATION_STATE_SUCCEEDED
        assert [row["photo_digest"] for row in await acme.rows("photos")] == [digest(b"file /0"), digest(b"slow")]
        assert web.asked["/0"] == 2


async def test_a_killed_child_is_followed_by_one_that_goes_on(home: Path, web: Web) -> None:
    listed(home, [web.url(path) for path in (*PATHS, "/slow")])
    async with house(home, "data", AIMASS_EGRESS_ALLOW=web.host) as running:
        acme = Tenant(running)
        await acme.rule("photos", SOURCE, rule())
        begun = await acme.begin("photos")
        await until(lambda: noted(home) == len(PATHS))
        (child,) = [one for one in psutil.Process().children() if "extractions.work" in " ".join(one.cmdline())]
        child.kill()
        web.may.set()
        assert (await acme.ended(begun.operation)).state == operations_pb2.OPERATION_STATE_SUCCEEDED
        assert {row["photo_state"] for row in await acme.rows("photos")} == {"kept"}
        assert {web.asked[path] for path in PATHS} == {1}
