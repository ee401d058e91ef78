"""Events as records of Kafka: CloudEvents in binary mode, a header for each attribute."""

from typing import Any

from services.kit.event import Event

_CONTENT_TYPE = "content-type"
_PROTOBUF = (_CONTENT_TYPE, b"application/protobuf")


def headers_of(event: Event) -> list[tuple[str, bytes]]:
    """An event's headers and the content type of its body."""
    return [*((name, value.encode(errors="replace")) for name, value in event.headers.items()), _PROTOBUF]


def event_of(record: Any) -> Event:
    """The event of a record. Invalid UTF-8 is replaced; `Event.flaw` finds what matters."""
    headers = {name: _text(value) for name, value in record.headers if name != _CONTENT_TYPE}
    body = bytes(record.value or b"")
    return Event(record.topic, _text(record.key), body, headers, record.offset, record.partition, system="kafka")


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
