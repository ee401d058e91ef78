"""What the command line prints: tables for people, JSON for programs, failures with what to do."""

import sys
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import orjson
from google.protobuf.message import Message
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aimass.encoding import plain
from aimass.failures import Failure

CONSOLE = Console(stderr=True, highlight=False)  # what is said about the work; results go to stdout
_WIDTH = 60  # characters of a value in a table
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
    CONSOLE.print(f"[red]{failure.code}[/]: {escape(failure.detail)}", soft_wrap=True)
    for violation in failure.violations:
        CONSOLE.print(f"  {escape(violation.pointer)} {escape(violation.rule)}", soft_wrap=True)
    if failure.request_id:
        CONSOLE.print(f"  [dim]request {escape(failure.request_id)}[/]")
    if advice := _ADVICE.get(failure.code):
        CONSOLE.print(f"  [dim]{advice}[/]")


def show(message: Message, form: Format) -> None:
    """Prints a message: a list as a table with a line for each item, anything else as names and values."""
    document = plain(message)
    if form is Format.JSON:
        sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    lists = [(name, items) for name, items in document.items() if isinstance(items, list)]
    rest = {name: value for name, value in document.items() if not isinstance(value, list)}
    if len(lists) == 1 and all(isinstance(item, Mapping) for item in lists[0][1]) and set(rest) <= {"next_page_token"}:
        table(lists[0][0], lists[0][1])
        if rest.get("next_page_token"):
            CONSOLE.print(f"[dim]more: --page-token {rest['next_page_token']}, or --all[/]")
        return
    pairs(document)


def line(message: Message) -> None:
    """Prints one message of a stream as a line of JSON."""
    sys.stdout.write(orjson.dumps(plain(message)).decode() + "\n")
    sys.stdout.flush()


def table(title: str, items: Iterable[Mapping[str, Any]]) -> None:
    """A line for each item, a column for each name that any of them has something to say of."""
    items = list(items)
    names = [n for n in dict.fromkeys(n for item in items for n in item) if any(_said(item.get(n)) for item in items)]
    if not names:
        CONSOLE.print(f"[dim]no {title.replace('_', ' ')}[/]")
        return
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        drawn.add_column(name)
    for item in items:
        drawn.add_row(*(_cell(item.get(name)) for name in names))
    Console(highlight=False).print(drawn)


def pairs(document: Mapping[str, Any]) -> None:
    """Names and values, one to a line; what is empty is left out."""
    drawn = Table(box=None, show_header=False, pad_edge=False)
    drawn.add_column(style="bold")
    drawn.add_column(overflow="fold")
    for name, value in document.items():
        if _said(value):
            drawn.add_row(name, _cell(value, 2000))
    Console(highlight=False).print(drawn)


def _said(value: Any) -> bool:
    return value not in (None, "", [], {}, "0", 0, False)


def _cell(value: Any, width: int = _WIDTH) -> str:
    text = value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()
    return escape(text if len(text) <= width else f"{text[: width - 1]}…")


def pairs_json(document: Mapping[str, Any]) -> None:
    """Prints plain values as JSON."""
    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
