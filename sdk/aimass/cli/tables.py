"""Tables for people: short names of enums, and no more columns than fit on the terminal."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import orjson
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aimass.encoding import plain

CONSOLE = Console(stderr=True, highlight=False)  # progress and hints; results go to stdout
_WIDTH, _LONGEST = 60, 2_000  # characters of a value on a screen: in a table, and by itself
_LARGE = 1e6  # from here on six digits would be an exponent
_APART = 2  # characters between two columns
# Control characters, in the spelling of Python; line feeds and tabs stay.
_COMMANDS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
# What is left out first where a line has no room for all, even if the others could be read when they are folded.
_SPARE = ("etag", "update_time", "create_time", "delete_time", "tenant", "description")
# What is left out next; then what is the same in all lines, and at last from the right.
_SPARED = ("record", "parent_span_id", "span_id", "trace_id", "attributes", "severity", "kind")
_FOLDED = 20  # characters that a column of texts can be folded to and still be read
_WORD = 36  # characters of the longest word that is not folded: an id


def shown(text: str) -> str:
    """Text of others, for the console: without markup or control characters."""
    return escape(_visible(text))


def _visible(text: str) -> str:
    return text.translate(_COMMANDS)


def readable(message: Message) -> dict[str, Any]:
    """A message as plain values for people: enums without prefix, times to the second, floats to six digits."""
    return _readable(plain(message), message.DESCRIPTOR)


def _readable(document: Mapping[str, Any], of: Any) -> dict[str, Any]:
    known = of.fields_by_name
    return {name: _value(value, known[name]) if name in known else value for name, value in document.items()}


def _value(value: Any, field: FieldDescriptor) -> Any:
    if isinstance(value, list):
        return [_value(one, field) for one in value]
    if field.enum_type and isinstance(value, str):
        prefix = field.enum_type.values[0].name.removesuffix("UNSPECIFIED")
        return value.removeprefix(prefix).lower().removesuffix("unspecified")
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) < _LARGE else value
    kind = field.message_type
    if kind and kind.full_name == "google.protobuf.Struct":
        return _whole(value)
    if kind and kind.full_name == "google.protobuf.Timestamp" and isinstance(value, str):
        return value if "." not in value else f"{value.partition('.')[0]}Z"
    apart = kind and kind.full_name.startswith("aimass.") and not kind.GetOptions().map_entry
    return _readable(value, kind) if kind and apart and isinstance(value, Mapping) else value


def _whole(value: Any) -> Any:
    """A value of a Struct, where every number is a float."""
    if isinstance(value, Mapping):
        return {name: _whole(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def table(title: str, items: Iterable[Mapping[str, Any]], whole: bool = False) -> None:
    """Prints a line for each item and a column for each name that has a value; for all names if `whole`.

    Columns that do not fit on the terminal are left out, which stderr says.
    """
    items = list(items)
    names = list(dict.fromkeys(name for item in items for name in item))
    if not whole:
        names = [name for name in names if any(_text(item.get(name)) for item in items if _is_set(item.get(name)))]
    if not names:
        CONSOLE.print(f"[dim]no {title.replace('_', ' ')}[/]")
        return
    columns = {name: [_line(_cell(item.get(name), _WIDTH)) for item in items] for name in names}
    room = Console().width
    left_out = [] if whole or not _screen() else _crowded(columns, room)
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    widths = _widths(columns, room) if _screen() else {}
    for name in columns:
        drawn.add_column(shown(name), width=widths.get(name), overflow="fold")
    _print(drawn, list(zip(*columns.values(), strict=True)), list(columns))
    if left_out:
        CONSOLE.print(f"[dim]no room for {shown(', '.join(left_out))}: -o json has all[/]", soft_wrap=True)


def _crowded(columns: dict[str, list[str]], room: int) -> list[str]:
    """Removes columns until the others fit. Returns their names, with the value where all lines have the same."""
    taken = list[str]()
    for name in _SPARE:
        if _fits(map(_wanted, columns, columns.values()), room):
            return taken
        if name in columns and len(columns) > 1:
            del columns[name]
            taken.append(name)
    same = [name for name, cells in columns.items() if len(cells) > 1 and len(set(cells)) == 1]
    for name in (*_SPARED, *same, *reversed(list(columns))):
        if _fits(map(_needed, columns, columns.values()), room) or len(columns) == 1:
            break
        if name in columns and (name in _SPARED or name != next(iter(columns))):
            cell = columns.pop(name)[0]
            taken.append(f"{name}={cell}" if name in same and len(cell) <= _FOLDED else name)
    return taken


def _fits(widths: Iterable[int], room: int) -> bool:
    return sum(width + _APART for width in widths) - _APART <= room


def _wanted(title: str, cells: list[str]) -> int:
    """Width of a column without folding."""
    return max(cell_len(line) for text in (title, *cells) for line in text.split("\n"))


def _needed(title: str, cells: list[str]) -> int:
    """Width of a column that is folded but can be read."""
    word = max(cell_len(word) for text in (title, *cells) for word in text.split() or [""])
    return min(_wanted(title, cells), max(word if word <= _WORD else 0, _FOLDED))


def _widths(columns: Mapping[str, list[str]], room: int) -> dict[str, int]:
    """The width of each column if not all fit without folding; empty if they do."""
    wanted = {name: _wanted(name, cells) for name, cells in columns.items()}
    needed = {name: _needed(name, cells) for name, cells in columns.items()}
    if _fits(wanted.values(), room) or not _fits(needed.values(), room):
        return {}
    left = room - sum(needed.values()) - _APART * (len(needed) - 1)
    for name in needed:
        more = min(left, wanted[name] - needed[name])
        needed[name], left = needed[name] + more, left - more
    return needed


def pairs(document: Mapping[str, Any]) -> bool:
    """Prints names and values, one on a line, without empty ones. Returns whether there were any."""
    drawn = Table(box=None, show_header=False, pad_edge=False)
    drawn.add_column(style="bold")
    drawn.add_column(overflow="fold")
    rows = [(_visible(name), _cell(value, _LONGEST)) for name, value in document.items() if _is_set(value)]
    _print(drawn, rows)
    return bool(rows)


def _print(drawn: Table, rows: Sequence[Sequence[str]], heads: Sequence[str] = ()) -> None:
    """Prints rows. Only on a terminal are cells cut and folded."""
    if not _screen():
        _write([[*map(_visible, heads)], *rows] if heads else rows)
        return
    for row in rows:
        drawn.add_row(*map(escape, row))
    Console(highlight=False).print(drawn)


def _write(rows: Sequence[Sequence[str]]) -> None:
    """Writes rows in columns; a long cell does not widen its column."""
    split = [[cell.split("\n") for cell in row] for row in rows]
    wide = [min(max(cell_len(part) for cell in column for part in cell), _WIDTH) for column in zip(*split, strict=True)]
    for row in split:
        for parts in zip_longest(*row, fillvalue=""):
            filled = (part + " " * (width - cell_len(part)) for part, width in zip(parts, wide, strict=True))
            sys.stdout.write(f"{(' ' * _APART).join(filled).rstrip()}\n")


def _screen() -> bool:
    return sys.stdout.isatty() or "COLUMNS" in os.environ


def _is_set(value: Any) -> bool:
    return value not in (None, "", [], {}, "0", 0, False)


def _line(text: str) -> str:
    """Text in one line unless it goes to a terminal: programs read an item from each line."""
    return text if _screen() else " ".join(text.splitlines())


def _cell(value: Any, width: int) -> str:
    text = _visible(_text(value))
    return text if len(text) <= width or not _screen() else f"{text[: width - 1]}…"


def _text(value: Any) -> str:
    """A value as text: strings as they are, mappings as name=value with nested values last, as JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    if isinstance(value, Mapping):
        plain_first = sorted(value.items(), key=lambda item: isinstance(item[1], Mapping | list))
        return ", ".join(f"{name}={_inner(one)}" for name, one in plain_first if _is_set(one))
    return orjson.dumps(value).decode()


def _inner(value: Any) -> str:
    return orjson.dumps(value).decode() if isinstance(value, Mapping | list) else _text(value)
