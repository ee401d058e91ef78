"""A tenant whose keys are destroyed is forgotten by all services: by those that run, were away, or were killed."""

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aimass import Client
from tests.support.kept import kept
from tests.support.server import Server, layout

pytestmark = pytest.mark.skipif(bool(layout()), reason="it looks into the files of its own installation")
WORDS = b"canary-of-somebody"
# What has its own end: events go from the bus a day after they are read.
PASSING = ("bus.db",)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "home")
    try:
        yield made.start()
    finally:
        made.kill()


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def told(home: Path) -> list[str]:
    """The files in which words of the tenant can be read."""
    found = []
    for folder, _, names in os.walk(home):
        for path in (Path(folder, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                if not path.name.startswith(PASSING) and WORDS in path.read_bytes():
                    found.append(str(path.relative_to(home)))
    return found


def versions(home: Path) -> int:
    """How many versions of data sets the database has."""
    with contextlib.closing(sqlite3.connect(f"file:{home}/data.db?mode=ro", uri=True)) as database:
        (count,) = database.execute("SELECT count(*) FROM data_set_version").fetchone()
        return int(count)


def fill(client: Client, tenant: str) -> None:
    """A data set with a quarantine, from rows that somebody has uploaded."""
    lines = [f"{number},{WORDS.decode()}-{number}" for number in range(50)] + [f"none,{WORDS.decode()}"]
    uploaded = client.upload("\n".join(["id,who", *lines]).encode())
    files = {"upload_digest": uploaded.digest, "format": "FILE_FORMAT_CSV"}
    client.sources.create_source(source="people", files=files)
    columns = [
        {"name": "id", "type": "COLUMN_TYPE_INT64", "required": True},
        {"name": "who", "type": "COLUMN_TYPE_STRING"},
    ]
    client.rules.create_rule(rule="people", source="people", definition={"file": {"columns": columns}})
    client.rules.activate_rule(rule="people", version=1)
    client.extractions.run_extraction(rule="people").result(timeout=60)


def whole(home: Path, tenant: str) -> bool:
    """Whether each part that has something has come to its end: folders, rows, records."""
    gone = not any((home / folder / tenant).exists() for folder in ("tables", "blobs"))
    return gone and not versions(home) and (home / "logs-store" / "forgotten").exists()


def filled(server: Server, tenant: str) -> str:
    """A tenant with content that is deleted; its etag."""
    with server.client() as admin:
        admin.access.create_tenant(tenant=tenant)
        made = admin.access.create_api_key(tenant=tenant, permissions=["*"])
        with server.client(made.secret) as own:
            fill(own, tenant)
        return str(admin.access.delete_tenant(tenant=tenant, etag="*").etag)


def shred(server: Server, tenant: str, etag: str) -> None:
    with server.client() as admin:
        admin.access.shred_tenant(tenant=tenant, etag=etag)


def has_records(home: Path, copy: Path) -> bool:
    """Whether a copy of the log centre's files says something of the tenant, with the keys that there are now."""
    return any(one.tenant == "leaving" and WORDS.decode() in str(one) for one in asyncio.run(kept(home, copy)))


def test_who_runs_forgets_when_it_is_asked(server: Server, tmp_path: Path) -> None:
    etag = filled(server, "leaving")
    assert any(name.startswith("tables/leaving/") for name in told(server.home))
    until(lambda: any(name.startswith("logs-store/index/") for name in told(server.home)))
    copy = shutil.copytree(server.home / "logs-store" / "records", tmp_path / "copy")
    assert has_records(server.home, copy)

    shred(server, "leaving", etag)
    until(lambda: whole(server.home, "leaving"), 30)  # it is asked, and waits for no look
    server.stop()

    assert told(server.home) == []
    assert not has_records(server.home, copy)


def test_a_service_that_was_away_forgets_when_it_is_back(tmp_path: Path) -> None:
    server = Server(tmp_path / "home", alone=["data"])
    try:
        etag = filled(server.start(), "leaving")
        data = server.processes.pop(0)
        os.killpg(data.pid, signal.SIGKILL)
        data.wait()
        shred(server, "leaving", etag)
        until(lambda: (server.home / "logs-store" / "forgotten").exists())
        assert versions(server.home) == 1
        assert {name.partition("-")[0] for name in told(server.home)} == {"data.db"}  # minima of columns

        server._launch(["data"])
        until(lambda: versions(server.home) == 0)
        server.stop()
        assert told(server.home) == []
    finally:
        server.kill()


def test_who_was_killed_forgets_when_it_starts_again(server: Server) -> None:
    etag = filled(server, "leaving")
    shred(server, "leaving", etag)
    server.kill()
    (server.home / "tables" / "leaving").mkdir(parents=True, exist_ok=True)
    (server.home / "tables" / "leaving" / "part").write_bytes(WORDS)  # as if it had not come so far
    server.start()
    until(lambda: whole(server.home, "leaving"))
    server.stop()

    assert told(server.home) == []
