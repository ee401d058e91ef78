"""aimass invoice."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from aimass import invoice as invoices
from aimass.cli import calling
from aimass.cli.output import Format, Output, as_json
from aimass.cli.tables import table
from aimass.failures import Failure
from aimass.invoice import USED

_Projects = Annotated[list[str] | None, typer.Option("--project", help="The project; may be given several times.")]
_Month = Annotated[str, typer.Option(help="The month, as 2026-11, in UTC; the current one if unset.")]


def invoice(month: _Month = "", project: _Projects = None, output_: Output = Format.TABLE) -> None:
    """Sum up the usage of a month from events alone.

    The result must equal that of `aimass usage list`, which comes from the ledger.
    """
    month = month or f"{datetime.now(UTC):%Y-%m}"
    try:
        datetime.strptime(month, "%Y-%m")
    except ValueError:
        raise Failure("invalid_value", f"{month} is not a month such as 2026-11") from None
    items = []
    for name in project or ["default"]:
        with calling.client(name) as client:
            items += [asdict(item) for item in invoices.rebuild(invoices.events(client, month), month)]
    if output_ is Format.JSON:
        as_json(items)
    else:
        table(f"usage in {month}", [_counted(item) for item in items])


def _counted(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item with its amounts in one column, as usage reports have them."""
    who = {name: value for name, value in item.items() if name not in USED}
    return {**who, "used": {name: item[name] for name in USED}}
