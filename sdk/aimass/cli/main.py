"""The command `aimass`: written commands first, then a group for each service of the contract."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from aimass import contract
from aimass.cli import calling, frames, generated, installation, learning, work
from aimass.cli.backup_commands import backup, restore
from aimass.cli.invoicing import invoice
from aimass.cli.output import exit_code, explain
from aimass.cli.receipts import verify
from aimass.cli.tables import CONSOLE
from aimass.failures import Failure

_HELP = """Turn raw data into models that serve predictions and are watched.

Start an installation here with `aimass up`, or use one elsewhere with `aimass login URL`.
`aimass doctor` finds what is wrong.

Example, a first data set:

  aimass upload flights.csv
  aimass sources create flights --upload DIGEST --format csv
  aimass extract flights

Exit codes: 0 done, 1 refused, 2 wrong usage, 3 no answer, 4 no key or not allowed,
5 done but receipts not saved, 130 interrupted."""
_SERVICES = "Every method, by service"


class _Commands(TyperGroup):
    """Written commands, and groups that are generated from the contract when they are used."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return [*super().list_commands(ctx), *(name.replace("_", "-") for name in contract.services())]

    def get_command(self, ctx: typer.Context, cmd_name: str) -> object:  # type: ignore[override]
        if found := super().get_command(ctx, cmd_name):
            return found
        service = cmd_name.replace("-", "_")
        if service not in contract.services():
            return None
        group = typer.main.get_group(generated.group(service))
        group.name, group.rich_help_panel = cmd_name, _SERVICES
        return group


def build() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(name="aimass", pretty_exceptions_enable=False)
    app.callback(help=_HELP, cls=_Commands, no_args_is_help=True, result_callback=calling.ended)(calling.global_options)
    panels: dict[str, tuple[Callable[..., Any], ...]] = {
        "Installation": (
            installation.up,
            installation.login,
            installation.logout,
            installation.status,
            installation.doctor,
            backup,
            restore,
        ),
        "Daily work": (
            work.upload,
            work.extract,
            learning.learn,
            frames.query,
            frames.rows,
            work.predict,
            invoice,
            verify,
        ),
    }
    for panel, commands in panels.items():
        for command in commands:
            app.command(rich_help_panel=panel)(command)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits with its code."""
    try:
        build()(args=list(arguments) if arguments is not None else None, prog_name="aimass")
    except Failure as failure:
        explain(failure)
        sys.exit(exit_code(failure))
    except KeyboardInterrupt:
        CONSOLE.print("interrupted")
        sys.exit(130)
