"""The commands that save rows as files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from aimass.cli import calling
from aimass.cli.calling import Project
from aimass.failures import Failure

_To = Annotated[Path, typer.Option("--to", help="The file: .parquet, .arrow or .csv.", show_default=False)]


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="A SELECT.")],
    to: _To,
    table: Annotated[
        list[str],
        typer.Option(help="A data set that it reads: NAME, NAME@VERSION, or ALIAS=NAME@VERSION.", show_default=False),
    ],
    max_rows: Annotated[int, typer.Option(help="The most rows; all if unset.")] = 0,
    project: Project = "default",
) -> None:
    """Save the whole result of a SELECT as a file.

    Example: aimass query "SELECT * FROM flights WHERE hour = 7" --table flights --to seven.parquet
    """
    with calling.client(project) as client:
        _said(client.query(sql, dict(map(_table, table)), max_rows=max_rows).save(to), to)


def rows(
    data_set: Annotated[str, typer.Argument(metavar="DATA_SET", help="The data set.")],
    to: _To,
    version: Annotated[int, typer.Option(help="The version; the newest if unset.")] = 0,
    column: Annotated[list[str] | None, typer.Option(help="A column to save; all if unset.")] = None,
    delta: Annotated[bool, typer.Option("--delta", help="Make a folder of --to that is a Delta table.")] = False,
    project: Project = "default",
) -> None:
    """Save the rows of a version of a data set as a file, or as a Delta table.

    Example: aimass rows flights --to flights.csv
    """
    with calling.client(project) as client:
        if delta:
            typer.echo(f"a Delta table in {client.save_delta(data_set, to, version, columns=column or None)}")
            return
        _said(client.rows(data_set, version, columns=column or None).save(to), to)


def _said(count: int, to: Path) -> None:
    typer.echo(f"{count:,} rows in {to}")


def _table(text: str) -> tuple[str, Any]:
    """A table and its name in the query. Raises Failure."""
    alias, _, of = text.rpartition("=")
    name, _, version = of.partition("@")
    if not name or (version and not version.isdecimal()):
        raise Failure("invalid_value", f"--table {text}: write NAME, NAME@VERSION, or ALIAS=NAME@VERSION")
    return alias or name, (name, int(version or 0))
