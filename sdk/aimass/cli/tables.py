"""Tables for people: words instead of the contract's names, and no more columns than a terminal holds."""

import io
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aimass.encoding import plain

CONSOLE = Console(stderr=True, highlight=False)  # what is said about the work; results go to stdout
_WIDTH, _LONGEST = 60, 2_000  # characters of a value on a screen: in a table, and by itself
_APART = 2  # characters between two columns
_NO_END = 100_000  # characters of a line that goes to a file or to another program
# What a terminal would do instead of showing it, as Python writes it; lines and tabs stay.
_COMMANDS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
# What is left out first where a line has no room for all.
_SPARE = ("etag", "update_time", "create_time", "delete_time", "tenant", "description")


def shown(text: str) -> str:
    """What somebody has written, for a console: neither markup nor anything that a terminal obeys."""
    return escape(_visible(text))


def _visible(text: str) -> str:
    return text.translate(_COMMANDS)


def spoken(message: Message) -> dict[str, Any]:
    """A message as people read it: values of enums without their type, times to the second."""
    return _spoken(plain(message), message.DESCRIPTOR)


def _spoken(document: Mapping[str, Any], of: Any) -> dict[str, Any]:
    known = of.fields_by_name
    return {name: _value(value, known[name]) if name in known else value for name, value in document.items()}


def _value(value: Any, field: FieldDescriptor) -> Any:
    if isinstance(value, list):
        return [_value(one, field) for one in value]
    if field.enum_type and isinstance(value, str):
        prefix = field.enum_type.values[0].name.removesuffix("UNSPECIFIED")
        return value.removeprefix(prefix).lower().removesuffix("unspecified")
    kind = field.message_type
    if kind and kind.full_name == "google.protobuf.Timestamp" and isinstance(value, str):
        return value if "." not in value else f"{value.partition('.')[0]}Z"
    apart = kind and kind.full_name.startswith("aimass.") and not kind.GetOptions().map_entry
    return _spoken(value, kind) if kind and apart and isinstance(value, Mapping) else value


def table(title: str, items: Iterable[Mapping[str, Any]], whole: bool = False) -> None:
    """A line for each item, a column for each name that any of them has something to say of; for all names if `whole`.

    Columns that have no room on a terminal are left out, and said.
    """
    items = list(items)
    names = list(dict.fromkeys(name for item in items for name in item))
    if not whole:
        names = [name for name in names if any(_text(item.get(name)) for item in items if _said(item.get(name)))]
    if not names:
        CONSOLE.print(f"[dim]no {title.replace('_', ' ')}[/]")
        return
    columns = {name: [_cell(item.get(name), _WIDTH) for item in items] for name in names}
    left_out = [] if whole or not _screen() else _crowded(columns, Console().width)
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        drawn.add_column(shown(name))
    for cells in zip(*columns.values(), strict=True):
        drawn.add_row(*map(escape, cells))
    _print(drawn)
    if left_out:
        CONSOLE.print(f"[dim]no room for {', '.join(left_out)}: -o json has all[/]")


def _crowded(columns: dict[str, list[str]], room: int) -> list[str]:
    """Takes columns out until the others have room."""
    taken = list[str]()
    for name in _SPARE:
        wide = sum(max(map(cell_len, (title, *cells))) + _APART for title, cells in columns.items()) - _APART
        if wide <= room:
            break
        if name in columns and len(columns) > 1:
            del columns[name]
            taken.append(name)
    return taken


def pairs(document: Mapping[str, Any]) -> None:
    """Names and values, one to a line; what is empty is left out."""
    drawn = Table(box=None, show_header=False, pad_edge=False)
    drawn.add_column(style="bold")
    drawn.add_column(overflow="fold")
    for name, value in document.items():
        if _said(value):
            drawn.add_row(shown(name), escape(_cell(value, _LONGEST)))
    _print(drawn)


def _print(drawn: Table) -> None:
    """Lines for another program are as long as what they say: only for a screen are they cut and filled."""
    if _screen():
        Console(highlight=False).print(drawn)
        return
    text = io.StringIO()
    Console(file=text, highlight=False, width=_NO_END).print(drawn)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in text.getvalue().split("\n")[:-1]))


def _screen() -> bool:
    return sys.stdout.isatty() or "COLUMNS" in os.environ


def _said(value: Any) -> bool:
    return value not in (None, "", [], {}, "0", 0, False)


def _cell(value: Any, width: int) -> str:
    text = _visible(_text(value))
    return text if len(text) <= width or not _screen() else f"{text[: width - 1]}…"


def _text(value: Any) -> str:
    """Words as they are, names with what is said of them; what is nested deeper as JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    if isinstance(value, Mapping) and not any(isinstance(one, Mapping | list) for one in value.values()):
        return ", ".join(f"{name}={_text(one)}" for name, one in value.items() if _said(one))
    return orjson.dumps(value).decode()
