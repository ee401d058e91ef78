"""How commands call: signed where that is wished, and with receipts kept where that is."""

import base64
import json
import os
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

import typer

from aimass.client import Client
from aimass.receipts import Keep, Receipt

_SIGNING = "Sign requests instead of showing a key: a file with a signing secret, or KEY:FILE with an Ed25519 key."
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
    _said.set({"signing": signing or None, "receipts": kept(receipts) if receipts else None})


def client(project: str = "default") -> Client:
    """The client of the command that runs, as it is wished."""
    return Client(project=project, **(_said.get() or {}))


def kept(path: Path) -> Keep:
    """Adds receipts to a file that only its owner can read, a line of JSON for each, with both bodies."""

    def keep(receipt: Receipt, request: bytes, answer: bytes) -> None:
        bodies = {"request": _text(request), "answer": _text(answer)}
        line = json.dumps({"receipt": json.loads(receipt.to_json()), **bodies}) + "\n"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "w") as file:
            file.write(line)

    return keep


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
