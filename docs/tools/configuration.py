"""Writes docs/configuration.md from the settings classes: `make docs` runs it.

python docs/tools/configuration.py FILE

What a setting means is the comment above it; fields under one comment share it.
"""

import ast
import importlib
import inspect
import io
import sys
import tokenize
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from services import SERVICES
from services.kit.config import Installation, Settings
from services.kit.telemetry.settings import OpenTelemetry

_HEAD = """# Configuration

Everything is said by environment variables, read once at start; an empty list of them is the laptop's setting. This
page is made from the code by `make docs`.

A process refuses to start when a variable beginning with `AIMASS_` is one that nothing reads, or has a value that
cannot be. It names all of them at once. Variables of other programs and of [the client](#the-client) are left alone.

**Secrets** are marked. They are printed nowhere. Each can be in a file instead:
`AIMASS_BUS_URL_FILE=/run/secrets/bus_url` is read in place of `AIMASS_BUS_URL`; only one of the two may be set. White
space around the content does not count.
"""
_CLIENT = """
## The client

The `aimass` command and the Python client read these. What is passed as an argument counts more; [the
guide](guides/sdk.md) says in which order places are asked.

| Variable | Meaning |
|---|---|
| `AIMASS_URL`, `AIMASS_KEY` | Where the gateway is, and the key that is shown to it (secret). |
| `AIMASS_SIGNING` | Signs requests, shows no key: a signing secret, a file with it, or `KEY:FILE` (a private key). |
| `AIMASS_RECEIPTS` | A file to which the command line adds the receipts of answers. |
| `AIMASS_CA` | A PEM file of the authority that the gateway's certificate must be of. Empty: those of the system. |
| `AIMASS_PROJECT` | The project of the commands; of a program it is an argument. Empty: `default`. |
| `AIMASS_HOME` | An installation on this machine: its gateway and first key are found. Empty: `.aimass` here. |
| `XDG_CONFIG_HOME` | Where `aimass login` keeps address and key, in `aimass/config.toml`. Empty: `~/.config`. |
"""
_OTEL = """
## Telemetry for a collector

Logs, spans and figures go to the log centre in any case. Where one of the addresses below is set they go there as
well, in OTLP. These are the standard variables of OpenTelemetry, as far as they are read; an empty one is one that is
not set. A collector that is away costs nothing but what it misses: 16 MiB of each signal wait for it, the oldest are
dropped and counted in `aimass_telemetry_dropped_total`. Logs and spans leave at once, figures once a minute.
"""


@dataclass
class Group:
    """Fields under one comment."""

    comment: str
    fields: list[str] = field(default_factory=list)


def groups(kind: type[Settings]) -> Iterator[Group]:
    """A class's fields in their order, with what is said of them. Raises ValueError for one without a comment."""
    source = inspect.getsource(kind)
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
    }
    (made,) = ast.parse(source).body
    assert isinstance(made, ast.ClassDef)
    found: Group | None = None
    for node in made.body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        if said := _above(comments, node.lineno):
            if found:
                yield found
            found = Group(said)
        if found is None:
            raise ValueError(f"{kind.__module__}.{node.target.id} has no comment")
        found.fields.append(node.target.id)
    if found:
        yield found


def _above(comments: dict[int, str], line: int) -> str:
    said: list[str] = []
    while (line := line - 1) in comments:
        said.insert(0, comments[line])
    return " ".join(said)


def table(kind: type[Settings]) -> str:
    """A class's variables as a table."""
    prefix, known = kind.prefix, kind.model_fields
    rows = ["| Variable | Type | Default | Meaning |", "|---|---|---|---|"]
    for group in groups(kind):
        names = [f"`{prefix}{name.upper()}`" for name in group.fields]
        types_ = [_type(known[name]) for name in group.fields]
        defaults = [_default(known[name].default) for name in group.fields]
        cells = ("<br>".join(column) for column in (names, types_, defaults))
        rows.append(f"| {' | '.join(cells)} | {_plain(group.comment)} |")
    return "\n".join(rows) + "\n"


def _plain(text: str) -> str:
    """A comment's words as Markdown shows them; what is in backticks stays as it is, but for the table's own sign."""
    pieces = text.replace("|", "\\|").split("`")
    return "`".join(piece if number % 2 else piece.replace("<", "\\<") for number, piece in enumerate(pieces))


def _type(info: FieldInfo) -> str:
    kind: Any = info.annotation
    if isinstance(kind, types.UnionType):
        (kind,) = (part for part in typing.get_args(kind) if part is not type(None))
    if kind is SecretStr:
        return "**secret** text"
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(f"`{choice}`" for choice in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return "numbers, comma-separated"
    named = {Path: "path", bool: "true or false", int: "whole number", float: "number", str: "text"}[kind]
    bounds = {"ge": "from {}", "gt": "above {}", "le": "to {}", "lt": "below {}"}
    said = [
        text.format(getattr(rule, sign))
        for rule in info.metadata
        for sign, text in bounds.items()
        if hasattr(rule, sign)
    ]
    return " ".join([named, *said])


def _default(value: Any) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value in ("", None):
        return "empty"
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def page() -> str:
    """The whole page."""
    parts = [_HEAD, "\n## Every process\n\n", table(Installation)]
    for name in SERVICES:
        module = importlib.import_module(f"services.{name}.config")
        parts += [f"\n## The service {name}\n\n", table(module.Config)]
    return "".join([*parts, _OTEL, "\n", table(OpenTelemetry), _CLIENT])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
