"""The client of a command: signs if --signing is given, saves receipts if --receipts is."""

import base64
import json
import os
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from aimass.cli.tables import CONSOLE
from aimass.client import Client
from aimass.failures import Failure
from aimass.receipts import Keep, Receipt

_SIGNING = "Sign requests instead of sending a key: a file with a signing secret, or KEY:FILE with an Ed25519 key."
Project = Annotated[str, typer.Option("--project", envvar="AIMASS_PROJECT", help="The project.")]
LOST = 5  # the exit code of a command that was done but whose receipts could not be saved
_RECEIPTS = "Append the receipts of answers to this file, for `aimass verify`."


# The options before the name of the command.
_options: ContextVar[Mapping[str, Any] | None] = ContextVar("options", default=None)


def global_options(
    signing: Annotated[str, typer.Option(envvar="AIMASS_SIGNING", help=_SIGNING, show_default=False)] = "",
    receipts: Annotated[
        Path | None, typer.Option(envvar="AIMASS_RECEIPTS", help=_RECEIPTS, dir_okay=False, show_default=False)
    ] = None,
) -> None:
    """The options before the name of a command."""
    _options.set({"signing": signing or None, "receipts": receipts, "lost": []})


def ended(_: object, **options: object) -> None:
    """Runs after a command that succeeded: exit code 5 if receipts were lost."""
    if (_options.get() or {}).get("lost"):
        raise typer.Exit(LOST)


def client(project: str = "default", keeps: bool = True) -> Client:
    """The client for the command; without `keeps` it asks for no receipts.

    Raises Failure `invalid_value` if the file for receipts cannot be written.
    """
    options = _options.get() or {}
    path = options.get("receipts") if keeps else None
    receipts = kept(path, options["lost"]) if path else None
    return Client(project=project, signing=options.get("signing"), receipts=receipts)


def kept(path: Path, lost: list[str]) -> Keep:
    """Appends receipts with both bodies to a file that only its owner can read, a line of JSON for each.

    Raises Failure `invalid_value` for a file that cannot be written, before a request is sent. If a receipt cannot be
    written later, its request is done all the same: stderr says so, and the request id is added to `lost`.
    """
    try:
        os.close(_opened(path))
    except OSError as error:
        raise Failure("invalid_value", f"receipts cannot be saved in {path}: {error.strerror}") from None

    def keep(receipt: Receipt, request: bytes, answer: bytes) -> None:
        bodies = {"request": _text(request), "answer": _text(answer)}
        line = json.dumps({"receipt": json.loads(receipt.to_json()), **bodies}) + "\n"
        try:
            _add(path, line.encode())
        except OSError as error:
            lost.append(receipt.request_id)
            what = f"the receipt of request {receipt.request_id} could not be saved in {path}: {error.strerror}"
            CONSOLE.print(f"[red]receipt_lost[/]: {escape(what)}", soft_wrap=True)
            CONSOLE.print("  [dim]the request itself was answered[/]", soft_wrap=True)

    return keep


def _add(path: Path, line: bytes) -> None:
    """Appends a whole line or nothing. Raises OSError."""
    file, written = _opened(path), 0
    try:
        while written < len(line):
            written += os.write(file, line[written:])
    except OSError:
        end = os.lseek(file, 0, os.SEEK_CUR)
        if written and os.fstat(file).st_size == end:  # nobody has appended anything since
            os.ftruncate(file, end - written)
        raise
    finally:
        os.close(file)


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
