"""A backup that is made while services work, and an installation that goes on from it."""

import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aimass import Client, Failure
from aimass.cli.main import build
from tests.journeys import steps
from tests.support.server import Server, serving

ROWS = b"faa,name\nJFK,John F Kennedy\nLGA,La Guardia\n"


def airports(client: Client) -> None:
    digest = client.upload(ROWS).digest
    client.sources.create_source(source="airports", files={"upload_digest": digest, "format": "csv"})
    columns = [{"name": name, "type": steps.TEXT} for name in ("faa", "name")]
    client.rules.create_rule(rule="airports", source="airports", definition={"file": {"columns": columns}})
    client.rules.activate_rule(rule="airports", version=1)
    assert steps.extract(client, "airports")["airports"].rows_accepted == 2


def read(client: Client) -> list[str]:
    return [str(row["faa"]) for row in client.data_sets.read_rows(data_set="airports", version=1).rows]


class Writing:
    """Somebody who makes models without a pause."""

    def __init__(self, server: Server) -> None:
        self.made: list[str] = []
        self._server, self._stop = server, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with self._server.client() as client:
            while not self._stop.wait(0.01):
                self.made.append(client.models.create_model(model=f"m{len(self.made)}").model)

    def __enter__(self) -> "Writing":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def aimass(*arguments: str) -> None:
    done = CliRunner().invoke(build(), list(arguments))
    assert done.exit_code == 0, done.output


def test_an_installation_goes_on_from_a_backup_made_while_it_worked(tmp_path: Path) -> None:
    archive = str(tmp_path / "all.aimass")
    with serving(tmp_path / "home") as server, server.client() as client, Writing(server) as writing:
        airports(client)
        before = list(writing.made)
        aimass("backup", archive, "--home", str(server.home))
        after, key = list(writing.made), server.key
    aimass("restore", archive, "--home", str(tmp_path / "again"))

    with serving(tmp_path / "again") as server, server.client(key) as client:
        assert read(client) == ["JFK", "LGA"]
        known = {model.model for model in client.models.iterate_models()}
        assert set(before) <= known <= {*after, f"m{len(after)}"}
        assert steps.extract(client, "airports")["airports"].data_set_version == 0  # it remembers what it has read
        with pytest.raises(Failure, match="already_exists"):
            airports(client)
