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

All settings are environment variables, read once at start; the defaults are those of a laptop. This page is
generated from the code by `make docs`.

A process does not start if a variable that begins with `AIMASS_` is unknown or has an invalid value; it names all of
them. Variables of other programs and of [the client](#the-client) are ignored.

**Secrets** are marked, and never printed. Each can be read from a file instead:
`AIMASS_BUS_URL_FILE=/run/secrets/bus_url` replaces `AIMASS_BUS_URL`; only one of the two may be set. White space around
the content is ignored.
"""
_CLIENT = """
## The client

The command `aimass` and the Python client read these variables. Arguments take precedence; [The Python
client](guides/sdk.md) has the whole order.

| Variable | Meaning |
|---|---|
| `AIMASS_URL`, `AIMASS_KEY` | The address of the gateway, and the API key (secret). |
| `AIMASS_SIGNING` | Signs requests, sends no key: a signing secret, a file with it, or `KEY:FILE` (a private key). |
| `AIMASS_RECEIPTS` | A file to which the command line appends the receipts of answers. |
| `AIMASS_CA` | A PEM file of the authority of the gateway's certificate. Empty: those of the system. |
| `AIMASS_PROJECT` | The project of commands; in programs it is an argument. Empty: `default`. |
| `AIMASS_HOME` | The home folder of an installation here, whose address and first key are used. Empty: `.aimass`. |
| `XDG_CONFIG_HOME` | Where `aimass login` saves address and key, as `aimass/config.toml`. Empty: `~/.config`. |
"""
_OTEL = """
## Telemetry for a collector

Logs, spans and metrics are sent to the log centre in any case, and to a collector too, as OTLP, if one of these
addresses is set. These are standard variables of OpenTelemetry; others of that standard are not read, and an empty one
counts as unset. While a collector is unavailable 16 MiB of each signal are buffered; then the oldest are dropped and
counted in `aimass_telemetry_dropped_total`. Logs and spans are sent at once, metrics once a minute.
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
        if texts := _above(comments, node.lineno):
            if found:
                yield found
            found = Group(texts)
        if found is None:
            raise ValueError(f"{kind.__module__}.{node.target.id} has no comment")
        found.fields.append(node.target.id)
    if found:
        yield found


def _above(comments: dict[int, str], line: int) -> str:
    texts: list[str] = []
    while (line := line - 1) in comments:
        texts.insert(0, comments[line])
    return " ".join(texts)


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
    texts = [
        text.format(getattr(rule, sign))
        for rule in info.metadata
        for sign, text in bounds.items()
        if hasattr(rule, sign)
    ]
    return " ".join([named, *texts])


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
