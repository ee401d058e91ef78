"""python -m examples.flights: the main job, from raw flights to watched predictions."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from aimass import Client, Failure
from examples.flights import data, own_data, report, training, watching
from examples.flights.company import Company, DataMissing
from examples.flights.elsewhere import visiting
from examples.flights.installation import STOPPING, Installation, StartFailed, installed
from examples.flights.story import Story, Unexpected

QUICK = 12_000  # flights


def _steps() -> list[tuple[int, str, Callable[[Story], None]]]:
    from examples.flights import predictions, release  # the stock client costs half a second

    return [
        (2, "Sources and rules", data.sources_and_rules),
        (3, "January to September", data.first_version),
        (3, "October to December", data.second_version),
        (4, "Features", data.features),
        (5, "Two candidates", training.candidates),
        (6, "The better one serves", training.promote_the_better),
        (7, "Predictions", predictions.predictions),
        (8, "Another version takes over, and back", release.switch_under_load),
        (9, "What really happened", watching.outcomes),
        (9, "What can be found", watching.traces),
        (10, "A file of one's own", own_data.airports),
    ]


def tell(console: Console, installation: Installation, rows: int | None) -> Story:
    """The whole story. Raises what goes wrong."""
    company, began = Company(installation.raw, rows), time.monotonic()
    with console.status("the services start, the company works"):
        seconds = installation.start()
        company.open()
    with Client(installation.doors["http"], installation.key, ca=installation.ca or None) as client:
        story = Story(console, installation, company, client, {"start seconds": seconds})
        story.seconds["1. An installation of its own"] = time.monotonic() - began
        story.say(f"{installation.doors['http']} was ready after {seconds:.1f} s; the key is in")
        story.say(str(installation.key_file))
        for number, title, step in _steps():
            with story.step(number, title):
                step(story)
    return story


def main(
    rows: Annotated[int | None, typer.Option(help="About how many flights; all 336,776 if unset.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help=f"About {QUICK:,} flights.")] = False,
    page: Annotated[Path, typer.Option("--report", help="The file of the report.")] = Path("build/flights.html"),
    summary: Annotated[Path | None, typer.Option(help="A file for the numbers, as JSON.")] = None,
    at: Annotated[Path | None, typer.Option(help="A JSON file that describes a running installation.")] = None,
) -> None:
    """The main job: from raw flights to watched predictions. KEEP=1 keeps the installation."""
    # In a file lines are as long as what they say: a path that is broken in two is none.
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    STOPPING.listen()
    keep = os.environ.get("KEEP", "") not in ("", "0")
    console.print("[bold]Which flights will be late?[/]\n\n[bold] 1. An installation of its own[/]")
    try:
        with visiting(at) if at else installed(keep) as installation:
            code = _told(console, installation, rows or (QUICK if quick else None), page, summary)
            if code:
                raise typer.Exit(code)
    except StartFailed as error:
        console.print(f"[red]Failed:[/] {escape(str(error))}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("stopped; nothing is left behind")
        raise typer.Exit(130) from None
    if keep and not at:
        console.print(f"kept: . .venv/bin/activate && AIMASS_HOME={installation.home} aimass up")


def _told(console: Console, installation: Installation, rows: int | None, page: Path, summary: Path | None) -> int:
    try:
        story = tell(console, installation, rows)
        console.print()
        console.print(report.table(story))
        report.write(story, page, summary)
        console.print(f"the report: {page.resolve()}")
        report.nexts(story)
    except (Failure, Unexpected, StartFailed, DataMissing, TimeoutError) as error:
        console.print(f"[red]Failed:[/] {escape(str(error))}")
        console.print(f"the installation is kept in {installation.folder}")
        return 1
    return 0


if __name__ == "__main__":
    typer.run(main)
