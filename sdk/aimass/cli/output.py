"""What the command line prints: tables for people, JSON for programs, failures with what to do."""

import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import orjson
from google.protobuf.message import Message

from aimass.cli.tables import CONSOLE, pairs, shown, spoken, table
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
    "unauthenticated": "the key is missing or wrong: `aimass login` takes another one",
    "signature_invalid": "requests of this key have to be signed: the guide on signatures says how",
    "signature_stale": "a clock is wrong, of this machine or of the gateway, or the request lay for a minute",
    "token_invalid": "the key is missing or wrong: `aimass login` takes another one",
    "unavailable": "is it running? `aimass doctor` looks for the reason",
    "quota_exceeded": "a budget is spent: `aimass quotas list` shows which, and who administers them can raise it",
    "rate_limited": "slow down, or ask for a key with a higher limit",
    "etag_mismatch": "somebody changed it meanwhile: look at it again, then repeat",
    "forbidden": "the key may not do this: `aimass access who-am-i` shows what it may",
}


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


def exit_code(failure: Failure) -> int:
    """3 when nothing answers, 4 when the caller is not known or may not, 1 for everything else."""
    if failure.code in ("unavailable", "deadline_exceeded") and not failure.status:
        return 3
    return 4 if failure.code in _WHO else 1


def explain(failure: Failure) -> None:
    """Says on stderr what went wrong, where, and what may help."""
    CONSOLE.print(f"[red]{failure.code}[/]: {shown(failure.detail)}", soft_wrap=True)
    for violation in failure.violations:
        CONSOLE.print(f"  {shown(violation.pointer)} {shown(violation.rule)}", soft_wrap=True)
    if failure.request_id:
        CONSOLE.print(f"  [dim]request {shown(failure.request_id)}[/]")
    if advice := _ADVICE.get(failure.code):
        CONSOLE.print(f"  [dim]{advice}[/]")


def show(message: Message, form: Format) -> None:
    """Prints a message: a list as a table with a line for each item, anything else as names and values.

    What has one list beside other values is these values, and then the list.
    """
    if form is Format.JSON:
        pairs_json(plain(message))
        return
    document = spoken(message)
    lists = [field.name for field in message.DESCRIPTOR.fields if field.is_repeated and field.message_type]
    lists = [name for name in lists if isinstance(document[name], list)]
    rest = {name: value for name, value in document.items() if name not in lists}
    more = rest.pop("next_page_token", "")
    if len(lists) != 1:
        pairs(document)
        return
    items = document[lists[0]]
    if isinstance(schema := rest.get("schema"), Mapping):  # of rows, in which names have no order
        columns = schema.get("columns", [])
        rest["schema"] = [f"{column['name']} {column['type']}" for column in columns]
        items = [{column["name"]: item.get(column["name"]) for column in columns} for item in items]
    said = pairs(rest)
    if items or not said:
        table(lists[0], items)
    if more:
        CONSOLE.print(f"[dim]more: --page-token {more}, or --all[/]")


def line(message: Message) -> None:
    """Prints one message of a stream as a line of JSON."""
    sys.stdout.write(orjson.dumps(plain(message)).decode() + "\n")
    sys.stdout.flush()


def pairs_json(document: Mapping[str, Any]) -> None:
    """Prints plain values as JSON."""
    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
