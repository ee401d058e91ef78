"""Decodes events of services into records."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson
from google.protobuf.descriptor_pool import Default
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from aimass.v1 import options_pb2
from services.kit.bus import Event
from services.kit.redaction import redact
from services.logs.domain import Record, Value, bounded, cut, word

_DEEP = 4
_PUBLISHERS = {"aimass.audit.v1": "gateway"}  # of topics that have no service's name


@cache
def _class(name: str) -> type[Message]:
    return GetMessageClass(Default().FindMessageTypeByName(name))


def records(event: Event) -> list[Record]:
    """One record. Raises KeyError for an unknown type, DecodeError for a damaged body, ValueError for a flaw."""
    if flaw := event.flaw():
        raise ValueError(f"the event has no valid {flaw}")
    message = _class(event.type).FromString(event.body)
    _strip(message)
    content = MessageToDict(message, preserving_proto_field_name=True)
    flat = dict(_flat(content, "", 0))
    found = _by_last_name(flat)
    state = str(found.get("state", ""))
    scope, trace = event.scope, event.headers.get("traceparent", "").split("-")
    stated = event.headers.get("ce_time", "")
    time = datetime.fromisoformat(stated) if stated else datetime.now(UTC)
    subject = event.headers.get("ce_subject", "")
    version = found.get("version", 0)
    record = Record(
        record=event.id,
        tenant=scope.tenant,
        project=scope.project,
        time_ns=int(time.timestamp() * 1e6) * 1000,
        kind="event",
        severity="WARN" if "FAILED" in state else "INFO",
        service=_PUBLISHERS.get(event.topic) or event.topic.split(".")[1],
        name=event.type.rsplit(".", 1)[-1],
        text=cut(redact(f"{event.type.rsplit('.', 1)[-1]} {subject} {orjson.dumps(content).decode()}")),
        request_id=word(str(found.get("request_id", ""))),
        trace_id=trace[1] if len(trace) == 4 else "",
        span_id=trace[2] if len(trace) == 4 else "",
        model=word(str(found.get("model", ""))),
        version=version if isinstance(version, int) and abs(version) < 2**31 else 0,
        status=word(str(found.get("outcome", state))),
        attributes=bounded({"type": event.type, "subject": subject} | flat),
    )
    return [record]


def _strip(message: Message) -> None:
    """Clears fields that the contract marks as secret."""
    for field, value in message.ListFields():
        if field.GetOptions().Extensions[options_pb2.field].secret:
            message.ClearField(field.name)
        elif field.message_type and not field.message_type.GetOptions().map_entry:
            for inner in value if field.is_repeated else [value]:
                _strip(inner)


def _flat(content: Any, at: str, deep: int) -> Iterator[tuple[str, Value]]:
    """Yields scalar values with their paths, such as release.model."""
    for name, value in content.items():
        path = f"{at}.{name}" if at else name
        if isinstance(value, dict) and deep < _DEEP:
            yield from _flat(value, path, deep + 1)
        elif isinstance(value, str | int | float | bool):
            yield path, redact(value) if isinstance(value, str) else value


def _by_last_name(flat: dict[str, Value]) -> dict[str, Value]:
    """The outermost value of each last name of a path: `model` for release.model."""
    found: dict[str, Value] = {}
    for path in sorted(flat, key=lambda path: path.count(".")):
        found.setdefault(path.rsplit(".", 1)[-1], flat[path])
    return found
