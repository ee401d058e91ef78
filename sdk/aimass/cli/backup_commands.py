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

_Home = Annotated[Path | None, typer.Option("--home", help="The home folder; AIMASS_HOME or `.aimass` if unset.")]


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The archive to write. It must not exist.")],
    home_: _Home = None,
) -> None:
    """Back up an installation into one file: databases, files, tables, logs and keys.

    The services may run meanwhile. The file holds the keys of the installation: keep it safe.

    If the environment has the settings of a stack, that is backed up, without its secrets.
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
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The archive.", exists=True, dir_okay=False)],
    home_: _Home = None,
) -> None:
    """Restore an installation from an archive, into a folder that does not exist or is empty.

    The whole archive is checked before the folder is created.

    If the environment has the settings of a stack, its servers are restored. They must be empty.
    """
    if home_ is None and _far(os.environ):
        _stack("--restore", file)
        return
    folder = home_ or home()
    with Progress(console=CONSOLE, transient=True) as progress:
        bar = progress.add_task("restore", total=None)
        made = archive.read(file, folder, lambda now, whole: progress.update(bar, completed=now, total=whole))
    typer.echo(f"{folder}: {made.files:,} files, {made.bytes / 2**20:,.1f} MiB, all digests match")


def _far(env: Mapping[str, str]) -> bool:
    """Whether the services keep their data on servers instead of in a home folder."""
    return any(env.get(name) or env.get(f"{name}_FILE") for name in ("AIMASS_BLOBS_URL", "AIMASS_DATA_DATABASE_URL"))


def _stack(verb: str, file: Path) -> None:
    """Runs `python -m services`, which knows what a stack keeps. Raises Failure if that is not installed."""
    if find_spec("services") is None:
        text = "to back up or restore a stack, install the services here: pip install aimass-server"
        raise Failure("failed_precondition", text)
    done = subprocess.run([sys.executable, "-m", "services", verb, str(file)], check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)
