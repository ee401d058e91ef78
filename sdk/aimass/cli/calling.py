"""How commands call: signed where that is wished, and with receipts kept where that is."""

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

_SIGNING = "Sign requests instead of showing a key: a file with a signing secret, or KEY:FILE with an Ed25519 key."
LOST = 5  # the exit code of a command that was done and whose receipts could not be kept
_RECEIPTS = "Add the receipts of answers to this file, for `aimass verify`."


# What was said before the command that runs.
_said: ContextVar[Mapping[str, Any] | None] = ContextVar("said", default=None)


def wishes(
    signing: Annotated[str, typer.Option(envvar="AIMASS_SIGNING", help=_SIGNING, show_default=False)] = "",
    receipts: Annotated[
        Path | None, typer.Option(envvar="AIMASS_RECEIPTS", help=_RECEIPTS, dir_okay=False, show_default=False)
    ] = None,
) -> None:
    """What is said before the name of a command."""
    _said.set({"signing": signing or None, "receipts": receipts, "lost": []})


def ended(_: object, **said: object) -> None:
    """What comes after a command that did what it should: exit code 5 if receipts of it were lost."""
    if (_said.get() or {}).get("lost"):
        raise typer.Exit(LOST)


def client(project: str = "default", keeps: bool = True) -> Client:
    """The client of the command that runs, as it is wished; one that does not keep asks for no receipts.

    Raises Failure `invalid_value` for receipts that nobody could keep.
    """
    said = _said.get() or {}
    path = said.get("receipts") if keeps else None
    return Client(project=project, signing=said.get("signing"), receipts=kept(path, said["lost"]) if path else None)


def kept(path: Path, lost: list[str]) -> Keep:
    """Adds receipts to a file that only its owner can read, a line of JSON for each, with both bodies.

    Raises Failure `invalid_value` for a file that cannot be written, before anything is asked. What was done already
    stays done when its receipt cannot be written: that is said on stderr, and its request is added to `lost`.
    """
    try:
        os.close(_opened(path))
    except OSError as error:
        raise Failure("invalid_value", f"no receipts can be kept in {path}: {error.strerror}") from None

    def keep(receipt: Receipt, request: bytes, answer: bytes) -> None:
        bodies = {"request": _text(request), "answer": _text(answer)}
        line = json.dumps({"receipt": json.loads(receipt.to_json()), **bodies}) + "\n"
        try:
            _add(path, line.encode())
        except OSError as error:
            lost.append(receipt.request_id)
            what = f"the receipt of request {receipt.request_id} could not be kept in {path}: {error.strerror}"
            CONSOLE.print(f"[red]receipt_lost[/]: {escape(what)}", soft_wrap=True)
            CONSOLE.print("  [dim]the request was answered: what it should do is done[/]", soft_wrap=True)

    return keep


def _add(path: Path, line: bytes) -> None:
    """Adds a whole line or nothing. Raises OSError."""
    file, written = _opened(path), 0
    try:
        while written < len(line):
            written += os.write(file, line[written:])
    except OSError:
        end = os.lseek(file, 0, os.SEEK_CUR)
        if written and os.fstat(file).st_size == end:  # nobody has added anything behind it
            os.ftruncate(file, end - written)
        raise
    finally:
        os.close(file)


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
