"""aimass verify."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from aimass.cli.calling import client
from aimass.cli.output import Format, Output, as_json
from aimass.cli.tables import table
from aimass.failures import Failure
from aimass.receipts import Receipt

_KEY = "The public key of `aimass access get-receipt-key`, or a file with it; the gateway's if unset."


def verify(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file of --receipts.", exists=True, dir_okay=False, readable=True)
    ],
    key: Annotated[str, typer.Option(help=_KEY, show_default=False)] = "",
    output_: Output = Format.TABLE,
) -> None:
    """Verify the receipts in FILE against the bodies beside them.

    With --key, no gateway is called. Exit code 1 if a receipt is not valid, or there is none.
    """
    public, found = _key(key), []
    for number, one in enumerate(_kept(file), 1):
        found.append({"line": number, **_verified(public, *one)})
    if output_ is Format.JSON:
        as_json({"receipts": found})
    else:
        table("receipts", found)
    if bad := sum(not one["holds"] for one in found):
        raise Failure("receipt_invalid", f"{bad} of {len(found)} receipts are not valid")
    if not found:
        raise Failure("receipt_invalid", f"{file} has no receipts")


def _verified(public: bytes, receipt: Receipt, request: bytes, answer: bytes) -> dict[str, Any]:
    """The values of a receipt if it is valid, else the reason."""
    try:
        receipt.verify(public, request, answer)
    except Failure as failure:
        return {"holds": False, "reason": failure.detail}
    asked = f"{receipt.values['@method;req']} {receipt.values['@path;req']}"
    values = {"holds": True, "time": f"{receipt.time:%Y-%m-%d %H:%M:%S}", "request": asked, "status": receipt.status}
    return values | {"request_id": receipt.request_id, "model_version": receipt.model_version}


def _kept(file: Path) -> Iterator[tuple[Receipt, bytes, bytes]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                content = json.loads(line)
                bodies = [base64.b64decode(content[name], validate=True) for name in ("request", "answer")]
                receipt = Receipt.from_json(json.dumps(content["receipt"]))
            except (ValueError, TypeError, KeyError, RecursionError, Failure):
                raise Failure("receipt_invalid", f"line {number} of {file} is not a receipt") from None
            yield receipt, bodies[0], bodies[1]


def _key(given: str) -> bytes:
    """32 bytes."""
    if not given:
        with client(keeps=False) as asked:
            return bytes(asked.access.get_receipt_key().public_key)
    try:
        text = Path(given).read_text().strip() if Path(given).is_file() else given
        found = base64.b64decode(text, validate=True)
    except (OSError, ValueError):  # what is no text, and no base64
        found = b""
    if len(found) != 32:
        raise Failure("invalid_value", "--key is not a public key, which is 32 bytes as base64")
    return found
