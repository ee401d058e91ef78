"""Records of a topic as documents: the value with its key, headers and place. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from services.data.reading.lines import LONGEST, is_deep
from services.data.reading.topics import TopicFormat

_SHOWN = 8192  # bytes of what is no record that are kept
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 253_402_300_799_999  # milliseconds: the end of the year 9999


class Broken(Exception):
    """What is no record, and why: `text` for people."""

    def __init__(self, reason: str, value: bytes) -> None:
        self.reason, self.text = reason, value[:_SHOWN].decode(errors="replace")


def document(kind: TopicFormat, record: Any) -> dict[str, Any]:
    """A record of the library. Raises Broken."""
    return {
        "value": _value(kind, record.value),
        "key": said(record.key),
        "headers": {name: said(value) for name, value in record.headers},
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": _time(record.timestamp),
    }


def _value(kind: TopicFormat, value: bytes | None) -> Any:
    if value is None:
        return None
    if len(value) > LONGEST:
        raise Broken("the value is longer than 1 MiB", value)
    if kind is TopicFormat.BYTES:
        return value.hex()
    try:
        text = bytes(value).decode()
    except UnicodeDecodeError:
        raise Broken("the value is not UTF-8", value) from None
    if kind is TopicFormat.TEXT:
        return text
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Broken("the value is not JSON", value) from None
    if is_deep(text, found):
        raise Broken("the value nests too deeply", value)
    return found


def said(value: bytes | None) -> str | None:
    """A key or a header as text; what is not UTF-8 as hex digits."""
    if value is None:
        return None
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        return bytes(value).hex()


def _time(milliseconds: int | None) -> str | None:
    if milliseconds is None or not 0 <= milliseconds <= _LATEST:
        return None
    at = _EPOCH + timedelta(milliseconds=milliseconds)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def split(
    kind: TopicFormat, records: Sequence[Any]
) -> tuple[list[dict[str, Any]], list[Any], list[tuple[int, str, str]]]:
    """Documents, the records that they are of, and what is none: offset, text, reason."""
    documents, whole, broken = list[dict[str, Any]](), list[Any](), list[tuple[int, str, str]]()
    for record in records:
        try:
            documents.append(document(kind, record))
            whole.append(record)
        except Broken as error:
            broken.append((record.offset, error.text, error.reason))
    return documents, whole, broken
