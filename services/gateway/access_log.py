"""The access log: a line for each request in a file, and a record in the telemetry unless it has another one."""

import asyncio
import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import orjson

from services.kit.auth import SYSTEM, Principal, Scope
from services.kit.redaction import redact
from services.kit.telemetry import Record, Telemetry

log = logging.getLogger(__name__)
_EVERY = 0.2  # seconds
_BOUND = 50_000
_SIZE = 64 * 2**20
_FILES = 4


@dataclass(slots=True)
class Entry:
    """One answered request."""

    request_id: str
    principal: Principal | None
    method: str
    path: str
    status: int
    seconds: float
    size: int  # bytes of the body that was sent
    address: str
    model: str = ""
    version: str = ""
    # It has another record in the telemetry, and only a line in the file here.
    recorded: bool = False
    # What answered in place of the version that was asked.
    degraded: str = ""


class AccessLog:
    """Writes entries in batches, in a thread; a line is on the file within 0.2 s."""

    def __init__(self, path: Path, telemetry: Telemetry) -> None:
        self._path, self._telemetry = path, telemetry
        self._waiting: deque[tuple[int, Entry]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="access-log")
        self.dropped = 0

    def add(self, entry: Entry) -> None:
        """Adds an entry; never waits. What does not fit is counted and dropped."""
        if len(self._waiting) >= _BOUND:
            self.dropped += 1
            return
        at = time.time_ns()
        self._waiting.append((at, entry))
        if not entry.recorded:
            self._telemetry.record(_record(at, entry))

    async def write_for_ever(self) -> None:
        """Writes entries for ever. The file exists from the start: a source may name it at once."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write, [])
        while True:
            await asyncio.sleep(_EVERY)
            await self.flush()

    async def flush(self) -> None:
        """Writes what waits."""
        if self._waiting:
            batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
            try:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._write, batch)
            except OSError as error:
                log.error("the access log cannot be written: %s", error)

    def _write(self, batch: list[tuple[int, Entry]]) -> None:
        self._rotate()
        with self._path.open("ab") as file:
            file.write(b"".join(_line(at, entry) for at, entry in batch))

    def _rotate(self) -> None:
        path = self._path
        if not path.exists() or path.stat().st_size < _SIZE:
            return
        for number in range(_FILES, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            newer = path.with_name(f"{path.name}.{number - 1}") if number > 1 else path
            if newer.exists():
                newer.replace(older)

    async def close(self) -> None:
        """Writes the rest."""
        await self.flush()
        self._thread.shutdown()


def _line(at: int, entry: Entry) -> bytes:
    who, (seconds, rest) = entry.principal, divmod(at, 1_000_000_000)
    whose = (*who.scope, who.id) if who else ("", "", "")
    return b'{"time":"%b.%03dZ","request_id":%b,%b,"duration_ms":%b,"bytes":%d,%b}\n' % (
        _second(seconds),
        rest // 1_000_000,
        orjson.dumps(redact(entry.request_id)),
        _asked(*whose, entry.method, entry.path, entry.status),
        orjson.dumps(round(entry.seconds * 1000, 3)),
        entry.size,
        _answered(entry.address, entry.model, entry.version, entry.degraded),
    )


@lru_cache(maxsize=1024)
def _asked(tenant: str, project: str, principal: str, method: str, path: str, status: int) -> bytes:
    """The part of a line that many lines have in common, as JSON."""
    fields = {"tenant": tenant, "project": project, "principal": principal, "method": method}
    return orjson.dumps(fields | {"path": _shown(path), "status": status})[1:-1]


@lru_cache(maxsize=1024)
def _answered(address: str, model: str, version: str, degraded: str) -> bytes:
    fields = {"address": address}
    if model:
        fields |= {"model": _shown(model), "version": _shown(version)}
    if degraded:
        fields["degraded"] = degraded
    return orjson.dumps(fields)[1:-1]


def _shown(text: str) -> str:
    """A caller's text without secrets."""
    return redact(text if text.isascii() else text.encode(errors="replace").decode())


@lru_cache(maxsize=16)
def _second(at: int) -> bytes:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


def _record(at: int, entry: Entry) -> Record:
    attributes = {
        "request_id": entry.request_id,
        "status": entry.status,
        "duration_ms": round(entry.seconds * 1000, 3),
        "principal": entry.principal.id if entry.principal else "",
        "method": entry.method,
        "path": entry.path.encode(errors="replace").decode(),
    }
    if entry.model:
        attributes |= {"model": entry.model, "version": entry.version}
    if entry.degraded:
        attributes["degraded"] = entry.degraded
    severity = "ERROR" if entry.status >= 500 else "WARNING" if entry.status >= 400 else "INFO"
    text = f"{entry.method} {attributes['path']} {entry.status}"
    scope = entry.principal.scope if entry.principal else Scope(SYSTEM)
    return Record("log", "access", text, scope, attributes, severity, "gateway", time_ns=at)
