"""The command `aimass`: hand-made commands first, then one group for each service of the contract."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from aimass import contract
from aimass.cli import calling, generated, installation, work
from aimass.cli.backup_commands import backup, restore
from aimass.cli.invoicing import invoice
from aimass.cli.output import exit_code, explain
from aimass.cli.receipts import verify
from aimass.cli.tables import CONSOLE
from aimass.failures import Failure

_HELP = """Raw data becomes served, watched models.

Begin with `aimass up` here, or `aimass login URL` for an installation elsewhere; `aimass doctor` says what is wrong.
A first data set: `aimass upload FILE`, `aimass sources create NAME --upload DIGEST --format csv`,
`aimass extract NAME`.

Exit codes: 0 done, 1 refused, 2 wrong usage, 3 nothing answers, 4 no key or not allowed,
5 done but receipts could not be kept, 130 interrupted."""
_SERVICES = "Services of the contract"


class _Commands(TyperGroup):
    """Hand-made commands, and groups that are made from the contract when they are asked for."""

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
    app.callback(help=_HELP, cls=_Commands, no_args_is_help=True, result_callback=calling.ended)(calling.wishes)
    panels: dict[str, tuple[Callable[..., Any], ...]] = {
        "This machine": (
            installation.up,
            installation.login,
            installation.logout,
            installation.status,
            installation.doctor,
            backup,
            restore,
        ),
        "Work": (work.upload, work.extract, work.predict, invoice, verify),
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
