"""aimass backup, aimass restore."""

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from aimass import backup as archive
from aimass.cli.tables import CONSOLE
from aimass.door import home
from aimass.failures import Failure

_Home = Annotated[Path | None, typer.Option("--home", help="The folder; AIMASS_HOME or `.aimass` if not said.")]


def backup(
    file: Annotated[Path, typer.Argument(help="The archive to write; must not exist.")], home_: _Home = None
) -> None:
    """Write everything of an installation on this machine into one file: databases, files, tables, logs, keys.

    Works while the services run. The file holds the keys of the installation: keep it as you keep them. Where the
    settings of a stack are in the environment, it is the stack that is written, without its secrets.
    """
    if home_ is None and _far(os.environ):
        _stack("--backup", file)
        return
    folder = home_ or home()
    with Progress(console=CONSOLE, transient=True) as progress:
        bar = progress.add_task("backup", total=None)
        made = archive.write(folder, file, lambda now, whole: progress.update(bar, completed=now, total=whole))
    typer.echo(f"{file}: {made.files:,} files, {made.bytes / 2**20:,.1f} MiB, {made.digest}")


def restore(
    file: Annotated[Path, typer.Argument(help="The archive.", exists=True, dir_okay=False)], home_: _Home = None
) -> None:
    """Put an installation back from an archive, into a folder that is not there yet or empty.

    Everything is checked before the folder appears: a broken archive leaves nothing behind. Where the settings of a
    stack are in the environment, it is put back into its servers, which must hold nothing.
    """
    if home_ is None and _far(os.environ):
        _stack("--restore", file)
        return
    folder = home_ or home()
    with Progress(console=CONSOLE, transient=True) as progress:
        bar = progress.add_task("restore", total=None)
        made = archive.read(file, folder, lambda now, whole: progress.update(bar, completed=now, total=whole))
    typer.echo(f"{folder}: {made.files:,} files, {made.bytes / 2**20:,.1f} MiB, all digests right")


def _far(env: Mapping[str, str]) -> bool:
    """Whether services keep things on servers, and not in a home folder."""
    return any(env.get(name) or env.get(f"{name}_FILE") for name in ("AIMASS_BLOBS_URL", "AIMASS_DATA_DATABASE_URL"))


def _stack(verb: str, file: Path) -> None:
    """The servers' side knows what a stack keeps. Raises Failure where it is not installed."""
    if find_spec("services") is None:
        raise Failure("failed_precondition", "the services are not installed here: run it where they are")
    done = subprocess.run([sys.executable, "-m", "services", verb, str(file)], check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)
