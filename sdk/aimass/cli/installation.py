"""The commands about an installation: start it, log in to it, look at it, find what is wrong."""

import importlib.util
import os
import sys
from contextlib import suppress
from typing import Annotated

import typer

from aimass.cli import calling, checks, output
from aimass.cli.calling import Project
from aimass.cli.checks import Finding, Grade
from aimass.cli.output import Format, Output
from aimass.cli.tables import CONSOLE, readable, shown, table
from aimass.client import Client
from aimass.door import Door, Grant, alone, find, kept, save
from aimass.encoding import plain
from aimass.failures import Failure

_MARKS = {Grade.GOOD: "[green]ok[/]", Grade.POOR: "[yellow]warning[/]", Grade.BAD: "[red]bad[/]"}


def up(
    services: Annotated[
        list[str] | None, typer.Argument(metavar="SERVICE", help="The services to start; all if unset.")
    ] = None,
) -> None:
    """Start the services in this terminal. Ctrl-C stops them.

    They store everything in AIMASS_HOME (`.aimass` if unset), and listen on AIMASS_GATEWAY_HTTP_PORT (8080 if unset).
    """
    if importlib.util.find_spec("services") is None:
        raise Failure(
            "failed_precondition",
            "the servers are not installed here: pip install aimass-server, then `aimass up` again",
        )
    os.execv(sys.executable, [sys.executable, "-m", "services", *(services or [])])


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="The gateway: https://aimass.example.org")],
    key: Annotated[
        str, typer.Option(envvar="AIMASS_KEY", help="The API key; prompted for if unset.", show_default=False)
    ] = "",
    ca: Annotated[
        str,
        typer.Option(envvar="AIMASS_CA", help="PEM file of the authority to trust.", show_default=False),
    ] = "",
    issuer: Annotated[str, typer.Option(help="Log in with this issuer in the browser, instead of with a key.")] = "",
) -> None:
    """Save the address of a gateway and a key, after checking that they work."""
    grant: Grant | None = None
    if issuer:
        from aimass.cli.browser import logged_in  # few commands need it

        # Before the new login: some issuers end all logins of a user with a client when one is revoked.
        secret, grant = logged_in(find(url, "token").url, issuer, ca, _leave_earlier)
    else:
        secret = key or typer.prompt("Key", hide_input=True)
    with Client(find(url, secret.strip()).url, secret.strip(), ca=ca or None) as client:
        who = client.access.who_am_i(timeout=10)
        with alone():
            earlier = None if grant else _earlier()
            path = save(Door(client.door.url, client.door.key, ca=client.door.ca, grant=grant))
    _leave(earlier)
    typer.echo(f"{who.principal} of tenant {who.tenant}; saved in {path}, readable only by you")


def _earlier() -> Grant | None:
    """The login that is about to be replaced."""
    with suppress(Failure):  # a file that cannot be read is overwritten
        if door := kept():
            return door.grant
    return None


def _leave_earlier() -> None:
    """Revokes the login that is about to be replaced. Waits for a process that renews it, whose token would be lost.

    Raises Failure if nothing can be saved.
    """
    with alone():
        _leave(_earlier())


def _leave(grant: Grant | None) -> None:
    """Revokes a login with its issuer, as `logout` does. A failure does not end the command."""
    if grant:
        from aimass.renewal import withdraw

        try:
            withdraw(grant)
        except Failure as failure:
            typer.echo(f"the issuer did not revoke the earlier login: {failure.detail}", err=True)


def logout() -> None:
    """Delete what `aimass login` saved, and revoke a login with its issuer."""
    from aimass.renewal import log_out

    door, failure = log_out()
    if not door:
        raise Failure("no_key", "nobody is logged in here")
    typer.echo(f"logged out of {door.url}")
    if failure:
        raise Failure(failure.code, f"logged out here; the issuer did not revoke the login: {failure.detail}")


def status(output_: Output = Format.TABLE, project: Project = "default") -> None:
    """Show who you are, which models serve, and which operations run."""
    with calling.client(project) as client:
        who = client.access.who_am_i()
        releases = list(client.releases.iterate_releases())
        running = []
        for service in ("data", "trainer", "registry"):
            answer = client.operations.list_operations(service=service, page_size=20)
            running += [one for one in answer.operations if not one.HasField("end_time")]
        address = client.door.url
    if output_ is Format.JSON:
        lists = {"releases": [plain(one) for one in releases], "operations": [plain(one) for one in running]}
        output.as_json({"url": address, "principal": plain(who), **lists})
        return
    typer.echo(f"{address}: {who.principal} of tenant {who.tenant}, project {who.project}")
    serving = [
        {
            "model": release["model"],
            "serving": release.get("serving", {}).get("version", ""),
            "state": release["state"],
            "since": release.get("update_time", ""),
        }
        for release in map(readable, releases)
    ]
    table("releases", serving)
    columns = ("operation", "resource", "stage", "progress")
    table("running operations", [{name: one[name] for name in columns} for one in map(readable, running)])


def doctor() -> None:
    """Find what keeps AI Mass from working on this machine, and say what to do.

    Exit code 1 if something is bad.
    """
    worst = Grade.GOOD
    for finding in checks.everything(os.environ):
        _print(finding)
        worst = max(worst, finding.grade)
    if worst is Grade.BAD:
        raise typer.Exit(1)


def _print(finding: Finding) -> None:
    CONSOLE.print(f"{_MARKS[finding.grade]} {shown(finding.what)}: {shown(finding.found)}")
    if finding.do:
        CONSOLE.print(f"   → {shown(finding.do)}")
