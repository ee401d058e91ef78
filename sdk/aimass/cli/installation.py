"""The commands about the installation: start it, log in to it, see how it is, find out what is wrong."""

import importlib.util
import os
import sys
from contextlib import suppress
from typing import Annotated

import typer

from aimass.cli import calling, checks, output
from aimass.cli.checks import Finding, Grade
from aimass.cli.output import Format
from aimass.cli.tables import CONSOLE, shown, spoken, table
from aimass.client import Client
from aimass.door import Door, Grant, alone, find, kept, save
from aimass.encoding import plain
from aimass.failures import Failure

_MARKS = {Grade.GOOD: "[green]ok[/]", Grade.POOR: "[yellow]mind[/]", Grade.BAD: "[red]bad[/]"}


def up(
    services: Annotated[list[str] | None, typer.Argument(help="Which services; all of them if not said.")] = None,
) -> None:
    """Start the services in this terminal; Ctrl-C stops them.

    They keep everything in AIMASS_HOME (`.aimass` here) and listen on AIMASS_GATEWAY_HTTP_PORT (8080).
    """
    if importlib.util.find_spec("services") is None:
        raise Failure(
            "failed_precondition",
            "the servers are not installed here: pip install aimass-server, then `aimass up` again",
        )
    os.execv(sys.executable, [sys.executable, "-m", "services", *(services or [])])


def login(
    url: Annotated[str, typer.Argument(help="Where the gateway is: https://aimass.example.org")],
    key: Annotated[
        str, typer.Option(envvar="AIMASS_KEY", help="The key; asked for if not said.", show_default=False)
    ] = "",
    ca: Annotated[
        str, typer.Option(envvar="AIMASS_CA", help="PEM file of the authority to trust.", show_default=False)
    ] = "",
    issuer: Annotated[
        str, typer.Option(help="Log in with this issuer in the browser; its token takes the place of a key.")
    ] = "",
) -> None:
    """Keep an address and a key for the next calls, after a look whether they work."""
    grant: Grant | None = None
    if issuer:
        from aimass.cli.browser import logged_in  # few commands need it

        # Before there is another: some issuers end all logins of a user with a client when they take one back.
        secret, grant = logged_in(find(url, "token").url, issuer, ca, _leave_earlier)
    else:
        secret = key or typer.prompt("Key", hide_input=True)
    with Client(find(url, secret.strip()).url, secret.strip(), ca=ca or None) as client:
        who = client.access.who_am_i(timeout=10)
        with alone():
            earlier = None if grant else _earlier()
            path = save(Door(client.door.url, client.door.key, ca=client.door.ca, grant=grant))
    _leave(earlier)
    typer.echo(f"{who.principal} of tenant {who.tenant}; kept in {path}, readable by you only")


def _earlier() -> Grant | None:
    """The login that another one takes the place of."""
    with suppress(Failure):  # what cannot be read is overwritten
        if door := kept():
            return door.grant
    return None


def _leave_earlier() -> None:
    """Waits for a process that renews it: what it is about to get would be overwritten, and nobody could take it back.

    Raises Failure where nothing can be kept.
    """
    with alone():
        _leave(_earlier())


def _leave(grant: Grant | None) -> None:
    """Has the issuer of a login take it back, as `logout` does; nobody is kept from logging in where that fails."""
    if grant:
        from aimass.renewal import withdraw

        try:
            withdraw(grant)
        except Failure as failure:
            typer.echo(f"the issuer could not be told that the login before has ended: {failure.detail}", err=True)


def logout() -> None:
    """Forget what `aimass login` kept; an issuer is told that it is to renew this login no more."""
    from aimass.renewal import log_out

    door, failure = log_out()
    if not door:
        raise Failure("no_key", "nobody is logged in here")
    typer.echo(f"logged out of {door.url}")
    if failure:
        raise Failure(failure.code, f"logged out here; the issuer could not be told: {failure.detail}")


def status(output_: Annotated[Format, typer.Option("--output", "-o")] = Format.TABLE) -> None:
    """Show who you are here, which models serve, and what is being worked on."""
    with calling.client() as client:
        who = client.access.who_am_i()
        releases = list(client.releases.iterate_releases())
        running = []
        for service in ("data", "trainer", "registry"):
            answer = client.operations.list_operations(service=service, page_size=20)
            running += [one for one in answer.operations if not one.HasField("end_time")]
        address = client.door.url
    if output_ is Format.JSON:
        lists = {"releases": [plain(one) for one in releases], "operations": [plain(one) for one in running]}
        output.pairs_json({"url": address, "principal": plain(who), **lists})
        return
    typer.echo(f"{address}: {who.principal} of tenant {who.tenant}, project {who.project}")
    serving = [
        {
            "model": release["model"],
            "serving": release.get("serving", {}).get("version", ""),
            "state": release["state"],
            "since": release.get("update_time", ""),
        }
        for release in map(spoken, releases)
    ]
    table("releases", serving)
    columns = ("operation", "resource", "stage", "progress")
    table("running operations", [{name: one[name] for name in columns} for one in map(spoken, running)])


def doctor() -> None:
    """Look for what keeps AI Mass from working here, and say what to do. Exit code 1 if something is bad."""
    worst = Grade.GOOD
    for finding in checks.everything(os.environ):
        _tell(finding)
        worst = max(worst, finding.grade)
    if worst is Grade.BAD:
        raise typer.Exit(1)


def _tell(finding: Finding) -> None:
    CONSOLE.print(f"{_MARKS[finding.grade]} {shown(finding.what)}: {shown(finding.found)}")
    if finding.do:
        CONSOLE.print(f"   → {shown(finding.do)}")
