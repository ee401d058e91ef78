"""The commands that make several calls: upload, extract, predict."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from aimass.cli import calling, output
from aimass.cli.calling import Project
from aimass.cli.flags import parse
from aimass.cli.output import Format, Output
from aimass.cli.tables import CONSOLE, shown, table
from aimass.client import Client
from aimass.failures import Failure
from aimass.v1 import datasets_pb2, schema_pb2, sources_pb2


def upload(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file.", exists=True, dir_okay=False, readable=True)],
    to: Annotated[str, typer.Option(help="What the file is for: sources or artifacts.")] = "sources",
    resume: Annotated[str, typer.Option(help="The id of an upload to continue.")] = "",
    output_: Output = Format.TABLE,
    project: Project = "default",
) -> None:
    """Upload FILE and print its digest, for a source or a model version.

    Example: aimass upload flights.csv
    """
    with calling.client(project) as client, Progress(console=CONSOLE, transient=True) as progress:
        bar = progress.add_task(shown(file.name), total=max(file.stat().st_size, 1))
        done = client.upload(file, to, resume or None, lambda now, _: progress.update(bar, completed=now))
    if output_ is Format.JSON:
        output.show(done, output_)
    else:
        typer.echo(done.digest)


def extract(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The source, whose rule has the same name.")],
    output_: Output = Format.TABLE,
    project: Project = "default",
) -> None:
    """Read what is new in SOURCE into its data set, and show the new version.

    For CSV and JSON lines, a missing rule is created from the first records.
    """
    with calling.client(project) as client:
        _rule(client, source)
        done = client.extractions.run_extraction(rule=source).result(progress=CONSOLE.is_terminal)
        version = done.data_set_version or client.data_sets.get_data_set(data_set=done.data_set).latest_version
        if not version:
            raise Failure("failed_precondition", f"{source} has no rows that its rule accepts")
        found = client.data_sets.get_data_set_version(data_set=done.data_set, version=version)
    if not done.data_set_version:
        CONSOLE.print("nothing new")
    _describe(found, output_)


def _rule(client: Client, source: str) -> None:
    """Creates and activates the rule with the source's name where needed."""
    try:
        rule = client.rules.get_rule(rule=source)
    except Failure as failure:
        if failure.code != "not_found":
            raise
        rule = client.rules.create_rule(rule=source, source=source, definition=_definition(client, source))
        CONSOLE.print(f"[dim]created the rule {source} from the first records[/]")
    if not rule.active_version:
        client.rules.activate_rule(rule=source, version=rule.latest_version)


def _definition(client: Client, source: str) -> dict[str, Any]:
    found = client.sources.get_source(source=source)
    columns = [
        {"name": column.name, "type": column.type}
        for column in client.sources.preview_source(source=source, records=100).schema.columns
    ]
    if found.files.format == sources_pb2.FILE_FORMAT_CSV:
        return {"file": {"columns": columns}}
    if found.files.format == sources_pb2.FILE_FORMAT_JSON_LINES:
        return {"json": {"columns": columns}}
    advice = f"`aimass rules discover {source}` finds some, `aimass rules create` creates one"
    raise Failure("failed_precondition", f"{source} needs a rule: {advice}")


def _describe(version: datasets_pb2.DataSetVersion, form: Format) -> None:
    if form is Format.JSON:
        output.show(version, form)
        return
    typer.echo(
        f"{version.data_set} version {version.version}: {version.rows:,} rows, {version.rows_added:,} of them new"
    )
    found = {quality.column: quality for quality in version.quality.columns}
    columns = []
    for column in version.schema.columns:
        quality = found.get(column.name, schema_pb2.ColumnQuality())
        kind = schema_pb2.ColumnType.Name(column.type).removeprefix("COLUMN_TYPE_").lower()
        row = {"column": column.name, "type": kind, "nulls": quality.nulls, "distinct": quality.distinct}
        columns.append(row | {"smallest": quality.minimum, "largest": quality.maximum})
    table("columns", columns)
    for reason, count in version.quality.quarantined.items():
        typer.echo(f"quarantined: {count:,} {reason}")


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model.")],
    rows: Annotated[
        str, typer.Argument(metavar="ROWS", help="A row or a list of rows as JSON, @FILE, or - for stdin.")
    ],
    version: Annotated[int, typer.Option(help="The version; the one that the release chooses if unset.")] = 0,
    output_: Output = Format.TABLE,
    project: Project = "default",
) -> None:
    """Predict for rows.

    Example: aimass predict late '{"carrier": "UA", "hour": 17}'
    """
    given = parse(rows, "ROWS")
    given = [given] if isinstance(given, dict) else given
    if not isinstance(given, list) or not all(isinstance(row, dict) for row in given):
        raise Failure("invalid_value", "ROWS must be a JSON object or a list of them")
    with calling.client(project) as client:
        answer = client.predict(model, rows=given, version=version or None)
    values = {name: [_plain(value) for value in column] for name, column in answer.outputs.items()}
    if output_ is Format.JSON:
        found = {"model": answer.model, "version": answer.version, "request_id": answer.request_id, "outputs": values}
        output.as_json(found)
        return
    predicted = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    table("predictions", predicted, whole=True)
    CONSOLE.print(f"[dim]{answer.model} version {answer.version}, request {answer.request_id}[/]")


def _plain(value: Any) -> Any:
    value = value.tolist() if hasattr(value, "tolist") else value
    return value[0] if isinstance(value, list) and len(value) == 1 else value
