"""Python's log records: into a file of JSON lines, and into telemetry."""

import json
import logging
import logging.handlers
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from services.kit.auth import SYSTEM, Scope
from services.kit.redaction import redact
from services.kit.telemetry.records import Record
from services.kit.telemetry.spans import current, traceparent

_QUIET = (
    "services.logs",
    "services.kit.telemetry",
    "services.kit.bus",
)  # not sent to the log centre: each would cause another


def process_log(folder: Path, process: str) -> logging.Handler:
    """Writes JSON lines to `<folder>/<process>.log`, rotated at 64 MiB, with three old files kept."""
    folder.mkdir(parents=True, exist_ok=True)
    file = logging.handlers.RotatingFileHandler(folder / f"{process}.log", maxBytes=64 * 2**20, backupCount=3)
    file.setFormatter(JsonLines())
    return file


def _context(record: logging.LogRecord) -> tuple[Scope, str]:
    """A log record's scope and request id: its own, else those of the current span."""
    around = current()
    scope = around.scope if around else Scope(SYSTEM)
    request_id = around.attributes.get("request_id", "") if around else ""
    tenant = getattr(record, "tenant", "")
    scope = Scope(tenant, getattr(record, "project", "default")) if tenant else scope
    return scope, getattr(record, "request_id", "") or request_id


# What a log record has anyway, and what `extra` says that is no label of its line.
_NO_LABELS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "operator", "tenant", "project", "request_id"}


def _labels(record: logging.LogRecord) -> dict[str, Any]:
    """What else `extra` says: labels of the line, and attributes of the record that is searched."""
    return {key: value for key, value in vars(record).items() if key not in _NO_LABELS}


class JsonLines(logging.Formatter):
    """Formats one JSON object per line, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        scope, request_id = _context(record)
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "severity": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
            "request_id": request_id,
            "tenant": scope.tenant,
        }
        for label, value in _labels(record).items():
            line.setdefault(label, value if isinstance(value, int | float) else redact(str(value)))
        if record.exc_info:
            line["trace"] = redact(self.formatException(record.exc_info))
        return json.dumps(line)


class ToRecords(logging.Handler):
    """Hands Python's log records to telemetry."""

    def __init__(self, tell: Callable[[Record], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(_QUIET):
            return
        scope, request_id = _context(record)
        found = {**_labels(record), "request_id": request_id}
        if record.exc_info and record.exc_info[0]:
            found["exception"] = record.exc_info[0].__name__
        service = record.name.split(".")[1] if record.name.count(".") else ""
        self._tell(
            Record("log", record.name, record.getMessage(), scope, found, record.levelname, service, traceparent())
        )


class Terminal(logging.StreamHandler[TextIO]):
    """Shows lines for the operator (`extra=OPERATOR`) and warnings; all others are in the file only."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or hasattr(record, "operator")
