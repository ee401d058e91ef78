"""aimass backup, aimass restore."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from aimass import backup as archive
from aimass.cli.output import CONSOLE
from aimass.door import home

_Home = Annotated[Path | None, typer.Option("--home", help="The folder; AIMASS_HOME or `.aimass` if not said.")]


def backup(
    file: Annotated[Path, typer.Argument(help="The archive to write; must not exist.")], home_: _Home = None
) -> None:
    """Write everything of an installation on this machine into one file: databases, files, tables, logs, keys.

    Works while the services run. The file holds the keys of the installation: keep it as you keep them.
    """
    folder = home_ or home()
    with Progress(console=CONSOLE, transient=True) as progress:
        bar = progress.add_task("backup", total=None)
        made = archive.write(folder, file, lambda now, whole: progress.update(bar, completed=now, total=whole))
    typer.echo(f"{file}: {made.files:,} files, {made.bytes / 2**20:,.1f} MiB, {made.digest}")


def restore(
    file: Annotated[Path, typer.Argument(help="The archive.", exists=True, dir_okay=False)], home_: _Home = None
) -> None:
    """Put an installation back from an archive, into a folder that is not there yet or empty.

    Everything is checked before the folder appears: a broken archive leaves nothing behind.
    """
    folder = home_ or home()
    with Progress(console=CONSOLE, transient=True) as progress:
        bar = progress.add_task("restore", total=None)
        made = archive.read(file, folder, lambda now, whole: progress.update(bar, completed=now, total=whole))
    typer.echo(f"{folder}: {made.files:,} files, {made.bytes / 2**20:,.1f} MiB, all digests right")
