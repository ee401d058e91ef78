"""What commands print: tables for people, JSON for programs, failures with advice."""

import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import orjson
import typer
from google.protobuf.message import Message

from aimass.cli.tables import CONSOLE, pairs, readable, shown, table
from aimass.encoding import plain
from aimass.failures import Failure

_WHO = (
    "no_key",
    "login_ended",
    "unauthenticated",
    "signature_invalid",
    "signature_stale",
    "token_invalid",
    "forbidden",
)
_ADVICE = {
    "no_key": "",
    "unauthenticated": "the key is missing or wrong: `aimass login` saves another one",
    "signature_invalid": "requests of this key must be signed: see the guide on signed requests",
    "signature_stale": "the clock of this machine or of the gateway is wrong, or the request was delayed for a minute",
    "token_invalid": "the key is missing or wrong: `aimass login` saves another one",
    "unavailable": "is it running? `aimass doctor` finds the reason",
    "quota_exceeded": "a quota is used up: `aimass quotas list` shows which; an administrator can raise it",
    "rate_limited": "call less often, or ask for a higher limit",
    "etag_mismatch": "it has changed since you read it: read it again, then repeat",
    "forbidden": "the key has no permission for this: `aimass access who-am-i` shows those that it has",
}


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[Format, typer.Option("--output", "-o", help="How results are printed.")]


def exit_code(failure: Failure) -> int:
    """3 without an answer, 4 without a valid key or permission, 1 for all else."""
    if failure.code in ("unavailable", "deadline_exceeded") and not failure.status:
        return 3
    return 4 if failure.code in _WHO else 1


def explain(failure: Failure) -> None:
    """Prints on stderr what went wrong, where, and what may help."""
    CONSOLE.print(f"[red]{failure.code}[/]: {shown(failure.detail)}", soft_wrap=True)
    for violation in failure.violations:
        CONSOLE.print(f"  {shown(violation.pointer)} {shown(violation.rule)}", soft_wrap=True)
    if failure.request_id:
        CONSOLE.print(f"  [dim]request {shown(failure.request_id)}[/]")
    if advice := _ADVICE.get(failure.code):
        CONSOLE.print(f"  [dim]{advice}[/]")


def show(message: Message, form: Format) -> None:
    """Prints a message: names and values, then a table if it has one list of messages."""
    if form is Format.JSON:
        as_json(plain(message))
        return
    document = readable(message)
    lists = [field.name for field in message.DESCRIPTOR.fields if field.is_repeated and field.message_type]
    lists = [name for name in lists if isinstance(document[name], list)]
    if "schema" in document and "rows" in lists:  # what else is told of rows stands above them
        lists = ["rows"]
    rest = {name: value for name, value in document.items() if name not in lists}
    more = rest.pop("next_page_token", "")
    if len(lists) != 1:
        pairs(document)
        return
    items = document[lists[0]]
    if isinstance(schema := rest.get("schema"), Mapping):  # of rows, whose fields have no order
        columns = schema.get("columns", [])
        rest["schema"] = [f"{column['name']} {column['type']}" for column in columns]
        items = [{column["name"]: item.get(column["name"]) for column in columns} for item in items]
    others = pairs(rest)
    if items or not others:
        table(lists[0], items)
    if more:
        CONSOLE.print(f"[dim]more: --page-token {more}, or --all[/]")


def line(message: Message) -> None:
    """Prints one message of a stream as a line of JSON."""
    sys.stdout.write(orjson.dumps(plain(message)).decode() + "\n")
    sys.stdout.flush()


def as_json(document: Any) -> None:
    """Prints plain values as JSON."""
    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
