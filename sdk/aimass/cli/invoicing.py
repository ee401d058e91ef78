"""aimass invoice."""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer

from aimass import invoice as invoices
from aimass.cli import calling
from aimass.cli.output import Format
from aimass.cli.tables import table
from aimass.failures import Failure
from aimass.invoice import USED

_Projects = Annotated[list[str] | None, typer.Option("--project", help="A project; may be said several times.")]
_Month = Annotated[str, typer.Option(help="As 2026-11, in UTC; this one if not said.")]
_Output = Annotated[Format, typer.Option("--output", "-o", help="How it is printed.")]


def invoice(month: _Month = "", project: _Projects = None, output_: _Output = Format.TABLE) -> None:
    """Add up what was used in a month, from the events alone, and not from the ledger that they tell of.

    What it says has to be what `aimass usage list` says of the same time.
    """
    month = month or f"{datetime.now(UTC):%Y-%m}"
    try:
        datetime.strptime(month, "%Y-%m")
    except ValueError:
        raise Failure("invalid_value", f"{month} is no month: it has to look like 2026-11") from None
    items = []
    for name in project or ["default"]:
        with calling.client(name) as client:
            items += [asdict(item) for item in invoices.rebuild(invoices.events(client, month), month)]
    if output_ is Format.JSON:
        sys.stdout.write(orjson.dumps(items, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        table(f"use in {month}", [_counted(item) for item in items])


def _counted(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item for people: what was used in one column, as reports of use have it."""
    who = {name: value for name, value in item.items() if name not in USED}
    return {**who, "used": {name: item[name] for name in USED}}
