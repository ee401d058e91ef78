"""A folder that the commit before wrote is opened by this one: nothing is lost, and work goes on."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys import steps
from tests.support import flights
from tests.support.server import ROOT, serving


def git(*arguments: str) -> str:
    ended = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return ended.stdout.strip() if ended.returncode == 0 else ""


@pytest.fixture
def before(tmp_path: Path) -> Iterator[Path]:
    """A checkout of the commit before."""
    place = tmp_path / "before"
    if not git("rev-parse", "--verify", "--quiet", "HEAD~1"):
        pytest.skip("there is no commit before in this checkout")
    git("worktree", "add", "--detach", str(place), "HEAD~1")
    yield place
    git("worktree", "remove", "--force", str(place))


def test_a_folder_of_the_commit_before_opens(tmp_path: Path, before: Path) -> None:
    raw, home = tmp_path / "raw", tmp_path / "home"
    flights.write(raw, range(1, 3), per_month=200)
    roots = f"{raw}:{home}/logs"
    with serving(home, root=before, AIMASS_DATA_FILE_ROOTS=roots) as server, server.client() as client:
        steps.register_sources(client, raw, home)
        steps.write_rules(client)
        client.rules.activate_rule(rule="flights_raw", version=1)
        first = steps.extract(client, "flights_raw")["flights_raw"]
        client.models.create_model(model="late", description="made before")
        server.stop()

    flights.write(raw, range(3, 4), per_month=200)
    with serving(home, AIMASS_DATA_FILE_ROOTS=roots) as server, server.client() as client:
        assert client.models.get_model(model="late").description == "made before"
        assert [rule.rule for rule in client.rules.iterate_rules()] == sorted(steps.RULES)
        assert client.extractions.get_extraction(extraction=first.extraction) == first
        second = steps.extract(client, "flights_raw")["flights_raw"]
        assert (second.records_read, second.data_set_version) == (200, 2)
