import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from services.gateway import access_log as module
from services.gateway.access_log import AccessLog, Entry
from services.kit.auth import Principal, Scope
from services.kit.telemetry import Record
from tests.support.house import until

CALLER = Principal(Scope("acme", "flights"), "key:abc", ("*",))


class Kept:
    """Where records go."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def record(self, record: Record) -> None:
        self.records.append(record)


def entry(**changes: Any) -> Entry:
    known: dict[str, Any] = {
        "request_id": "r1",
        "principal": CALLER,
        "method": "GET",
        "path": "/v2",
        "status": 200,
        "seconds": 0.0015,
    }
    return Entry(**(known | {"size": 12, "address": "::1"} | changes))


async def lines(tmp_path: Path, *entries: Entry) -> tuple[list[dict[str, Any]], list[Record]]:
    kept: Any = Kept()
    access_log = AccessLog(tmp_path / "access.log", kept)
    for one in entries:
        access_log.add(one)
    await access_log.close()
    return [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()], kept.records


async def test_a_line_says_who_asked_for_what_and_what_came_of_it(tmp_path: Path) -> None:
    found, _ = await lines(tmp_path, entry(model="late", version="3"))

    assert found[0].pop("time").endswith("Z")
    assert found[0] == {
        "request_id": "r1",
        "tenant": "acme",
        "project": "flights",
        "principal": "key:abc",
        "method": "GET",
        "path": "/v2",
        "status": 200,
        "duration_ms": 1.5,
        "bytes": 12,
        "address": "::1",
        "model": "late",
        "version": "3",
    }


async def test_a_record_belongs_to_the_callers_tenant_or_to_the_platform(tmp_path: Path) -> None:
    _, records = await lines(tmp_path, entry(), entry(principal=None, status=401), entry(status=503))

    assert [record.scope.tenant for record in records] == ["acme", "system", "acme"]
    assert [record.severity for record in records] == ["INFO", "WARNING", "ERROR"]
    assert records[0].attributes["status"] == 200


async def test_a_path_that_is_no_text_is_logged_all_the_same(tmp_path: Path) -> None:
    found, _ = await lines(tmp_path, entry(path="/a\ud800"))

    assert found[0]["path"] == "/a?"


async def test_a_full_file_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SIZE", 10)
    for number in range(7):
        await lines(tmp_path, entry(request_id=str(number)))

    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["access.log", "access.log.1", "access.log.2", "access.log.3", "access.log.4"]
    assert '"request_id":"5"' in (tmp_path / "access.log.1").read_text()


async def test_what_does_not_fit_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BOUND", 1)
    kept: Any = Kept()
    access_log = AccessLog(tmp_path / "access.log", kept)
    access_log.add(entry())
    access_log.add(entry())
    await access_log.close()

    assert access_log.dropped == 1


async def test_the_file_is_there_before_the_first_request(tmp_path: Path) -> None:
    kept: Any = Kept()
    access_log = AccessLog(tmp_path / "access.log", kept)
    writing = asyncio.create_task(access_log.write_for_ever())
    await until((tmp_path / "access.log").exists)
    writing.cancel()
    await access_log.close()

    assert (tmp_path / "access.log").read_text() == ""


async def test_what_tells_itself_is_a_line_in_the_file_only(tmp_path: Path) -> None:
    found, records = await lines(tmp_path, entry(recorded=True), entry(request_id="r2"))

    assert [line["request_id"] for line in found] == ["r1", "r2"]
    assert [record.attributes["request_id"] for record in records] == ["r2"]
