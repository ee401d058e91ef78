"""aimass verify."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from aimass.cli.calling import client
from aimass.cli.output import Format, pairs_json
from aimass.cli.tables import table
from aimass.failures import Failure
from aimass.receipts import Receipt

_KEY = "The public key, as `aimass access get-receipt-key` shows it, or a file with it; asked for if not said."


def verify(
    file: Annotated[Path, typer.Argument(help="What --receipts kept.", exists=True, dir_okay=False, readable=True)],
    key: Annotated[str, typer.Option(help=_KEY, show_default=False)] = "",
    output_: Annotated[Format, typer.Option("--output", "-o", help="How results are printed.")] = Format.TABLE,
) -> None:
    """Verify receipts that were kept, with the bodies beside them.

    With --key nobody is asked. Exit code 1 if one does not hold, or there is none.
    """
    public, found = _key(key), []
    for number, one in enumerate(_kept(file), 1):
        found.append({"line": number, **_said(public, *one)})
    if output_ is Format.JSON:
        pairs_json({"receipts": found})
    else:
        table("receipts", found)
    if bad := sum(not one["holds"] for one in found):
        raise Failure("receipt_invalid", f"{bad} of {len(found)} receipts do not hold")
    if not found:
        raise Failure("receipt_invalid", f"{file} holds no receipts")


def _said(public: bytes, receipt: Receipt, request: bytes, answer: bytes) -> dict[str, Any]:
    """What a receipt says, if it holds; why it does not."""
    try:
        receipt.verify(public, request, answer)
    except Failure as failure:
        return {"holds": False, "reason": failure.detail}
    asked = f"{receipt.values['@method;req']} {receipt.values['@path;req']}"
    said = {"holds": True, "time": f"{receipt.time:%Y-%m-%d %H:%M:%S}", "request": asked, "status": receipt.status}
    return said | {"request_id": receipt.request_id, "model_version": receipt.model_version}


def _kept(file: Path) -> Iterator[tuple[Receipt, bytes, bytes]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                said = json.loads(line)
                bodies = [base64.b64decode(said[name], validate=True) for name in ("request", "answer")]
                receipt = Receipt.from_json(json.dumps(said["receipt"]))
            except (ValueError, TypeError, KeyError, RecursionError, Failure):
                raise Failure("receipt_invalid", f"line {number} of {file} is no receipt") from None
            yield receipt, bodies[0], bodies[1]


def _key(said: str) -> bytes:
    """32 bytes."""
    if not said:
        with client(keeps=False) as asked:
            return bytes(asked.access.get_receipt_key().public_key)
    try:
        text = Path(said).read_text().strip() if Path(said).is_file() else said
        found = base64.b64decode(text, validate=True)
    except (OSError, ValueError):  # what is no text, and no base64
        found = b""
    if len(found) != 32:
        raise Failure("invalid_value", "--key is no public key of receipts, which is 32 bytes as base64")
    return found
