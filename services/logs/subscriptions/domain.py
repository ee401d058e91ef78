"""Subscriptions: their deliveries, templates and schedules of tries."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from json import dumps
from typing import Any

from services.kit.errors import Code, Failure, Violation
from services.logs.domain import Record, text_of

PENDING, DELIVERED, DEAD, BLOCKED = "pending", "delivered", "dead", "blocked"
_FIELDS = (
    *("record", "kind", "severity", "service", "name", "text", "request_id", "trace_id", "span_id", "parent_span_id"),
    *("model", "version", "status", "duration_ms", "time", "tenant", "project"),
)
_LONGEST, _MOST_FIELDS, _LARGEST = 20_000, 200, 65_536
_PIECE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_FIELD = re.compile(r"\s*record\.([A-Za-z0-9_.-]{1,120})\s*(?:\|\s*([a-z]{1,20})\s*)?")
_JITTER = 0.2


@dataclass(frozen=True)
class Subscription:
    """A webhook for records that match a filter."""

    subscription: str
    description: str
    filter: str
    url: str
    subject: str
    body: str
    create_time: datetime
    update_time: datetime
    generation: int = 1
    delete_time: datetime | None = None
    start: int = 0  # the number of the first record that it applies to

    @property
    def etag(self) -> str:
        return str(self.generation)


@dataclass(frozen=True)
class Created:
    """A new subscription, and the secret that its receiver verifies signatures with."""

    subscription: Subscription
    signing_secret: str


@dataclass(frozen=True)
class Delivery:
    """One message to one receiver."""

    delivery: str
    subscription: str
    record: str
    state: str
    attempts: int
    response_status: int
    error: str
    create_time: datetime
    next_attempt_time: datetime | None = None
    deliver_time: datetime | None = None


@dataclass(frozen=True)
class Message:
    """What a receiver gets: the body, and headers beside those of the signature."""

    headers: Mapping[str, str]
    body: bytes


def _rfc3339(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat().replace("+00:00", "Z")


def content(record: Record) -> dict[str, Any]:
    """A record as an object for JSON, which is sent without a template."""
    shown = {name: getattr(record, name) for name in _FIELDS if name != "time"}
    return shown | {"time": _rfc3339(record.time_ns), "attributes": dict(record.attributes)}


def _date(value: Any) -> str:
    text = str(value)
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).date().isoformat()
    except ValueError:
        return text


_FILTERS: Mapping[str, Callable[[Any], str]] = {
    "upper": lambda value: _text(value).upper(),
    "lower": lambda value: _text(value).lower(),
    "json": lambda value: dumps(value, ensure_ascii=False),
    "date": _date,
}


def _text(value: Any) -> str:
    return "" if value is None else text_of(value) if isinstance(value, str | int | float | bool) else str(value)


def check_template(template: str) -> None:
    """Raises template_invalid for unknown fields or filters, unbalanced braces, or a template that is too long."""
    if len(template) > _LONGEST:
        raise _invalid(f"the template has more than {_LONGEST} characters")
    pieces = _PIECE.findall(template)
    if len(pieces) > _MOST_FIELDS:
        raise _invalid(f"the template has more than {_MOST_FIELDS} fields")
    for piece in pieces:
        match = _FIELD.fullmatch(piece)
        if not match:
            raise _invalid(f"{{{{{piece[:50]}}}}} is not written {{{{record.field}}}} or {{{{record.field | filter}}}}")
        name, filter_name = match.groups()
        if name not in _FIELDS and not name.startswith("attributes."):
            raise _invalid(f"a record has no field {name}; it has {', '.join(_FIELDS)} and attributes.<name>")
        if filter_name and filter_name not in _FILTERS:
            raise _invalid(f"there is no filter {filter_name}; there are {', '.join(_FILTERS)}")
    rest = _PIECE.sub("", template)
    if "{{" in rest or "}}" in rest:
        raise _invalid("the template has unbalanced braces")


def _invalid(why: str) -> Failure:
    return Failure(Code.TEMPLATE_INVALID, why, [Violation("/template", why)])


def render(template: str, record: Record) -> str:
    """Renders a checked template, to at most 65,536 characters. Missing values are empty."""
    values = content(record)
    left = _LARGEST

    def fill(match: re.Match[str]) -> str:
        nonlocal left
        parts = _FIELD.fullmatch(match[1])
        assert parts, "check_template was not called"
        name, filter_name = parts.groups()
        inner = name.removeprefix("attributes.")
        value = values["attributes"].get(inner) if inner != name else values[name]
        text = (_FILTERS[filter_name](value) if filter_name else _text(value))[: max(left, 0)]
        left -= len(text)
        return text

    return _PIECE.sub(fill, template)[:_LARGEST]


def next_try(schedule: tuple[float, ...], attempts: int, now: datetime, chance: float) -> datetime | None:
    """When to try again after `attempts` tries, with a fifth of jitter by `chance`, 0 to 1; None: never."""
    if attempts > len(schedule):
        return None
    return now + timedelta(seconds=schedule[attempts - 1] * (1 + _JITTER * (2 * chance - 1)))
