"""What it means that a pushed record fits its source. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from services.data.reading.kinds import PushedSource
from services.data.reading.values import Misfit, parse
from services.kit.errors import InvalidValue, Violation

_MOST = 1000  # records of one call
_LONGEST = 2**20  # bytes of a record as JSON
_ID = 256  # characters
_SHOWN = 20  # violations that are named


@dataclass(frozen=True)
class Pushed:
    """A record as it is stored."""

    body: bytes
    digest: bytes


def checked(source: PushedSource, records: Sequence[Mapping[str, Any]]) -> dict[str, Pushed]:
    """The records by id. Raises invalid_value, with the places of what does not fit."""
    if not 0 < len(records) <= _MOST:
        raise InvalidValue(
            f"there must be 1 to {_MOST} records", [Violation("/records", f"must have 1 to {_MOST} items")]
        )
    found, wrong = dict[str, Pushed](), list[Violation]()
    for place, record in enumerate(records):
        rules = _broken(source, record)
        name, body = str(record.get(source.record_id)), orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
        if len(body) > _LONGEST:
            rules.append(("", "must have at most 1 MiB"))
        if name in found and found[name].body != body:
            rules.append((source.record_id, "must not be that of another record"))
        wrong += [Violation(f"/records/{place}/{field}".rstrip("/"), rule) for field, rule in rules]
        found[name] = Pushed(body, hashlib.sha256(body).digest())
    if wrong:
        raise InvalidValue(f"{wrong[0].pointer[1:].replace('/', '.')} {wrong[0].rule}", wrong[:_SHOWN])
    return found


def _broken(source: PushedSource, record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The fields that break a rule."""
    name, rules = record.get(source.record_id), list[tuple[str, str]]()
    if isinstance(name, bool) or not isinstance(name, str | int) or not 0 < len(str(name)) <= _ID:
        rules.append((source.record_id, f"must be a string of 1 to {_ID} characters or an integer: the record's id"))
    for column in source.columns:
        value = record.get(column.name)
        if value is None:
            rules += [] if column.nullable else [(column.name, "must be set")]
            continue
        try:
            parse(value, column.type)
        except Misfit:
            rules.append((column.name, f"must fit {column.type}"))
    return rules
