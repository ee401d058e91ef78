"""The demo, as a newcomer runs it, with few flights."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.server import ROOT

DEMO = [sys.executable, "-m", "examples.flights"]


def run(folder: Path, *arguments: str, **env: str) -> subprocess.Popen[str]:
    """The demo, with its temporary files in a folder of the test's."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIMASS_")}
    known = {"TMPDIR": str(folder / "tmp"), "PYTHONPATH": f"{ROOT}:{ROOT}/sdk", "COLUMNS": "160"}
    known |= {"NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    command = [*DEMO, "--report", str(folder / "report.html"), *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=kept | known | env, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def of(folder: Path) -> list[int]:
    """Processes that know a folder: services that the demo started, and their children."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in process.environ().get("TMPDIR", "") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("demo")
    process = run(folder, "--quick", "--summary", str(folder / "summary.json"))
    try:
        output, _ = process.communicate(timeout=200)
    except subprocess.TimeoutExpired:
        process.terminate()  # it ends its services itself
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    return folder, output, json.loads((folder / "summary.json").read_text())


def test_the_story_ends_well(told: tuple[Path, str, dict[str, Any]]) -> None:
    _, said, summary = told
    assert "What to try next" in said
    assert summary["flights_versions"] == 2
    assert summary["flights_rows"] > 10_000
    assert 0.15 < summary["base_rate"] < 0.3
    assert summary["requests_while_switching"] > 10
    assert summary["airports_rows"] == 1458
    assert summary["webhooks"] >= 1
    versions = summary["versions"].values()
    assert {version["name"] for version in versions} == {"LightGBM", "logistic regression"}
    assert all(version["auc"] > 0.6 and version["live_auc"] > 0.55 for version in versions)
    assert len(summary["seconds"]) == 12


def test_the_report_needs_nothing_but_a_browser(told: tuple[Path, str, dict[str, Any]]) -> None:
    page = (told[0] / "report.html").read_text()
    assert page.count("<svg") == 3
    assert "flights_raw" in page
    assert not re.search(r"(src|href)=|@import|url\(", page)


def test_nothing_is_left_behind(told: tuple[Path, str, dict[str, Any]]) -> None:
    assert list((told[0] / "tmp").iterdir()) == []
    assert of(told[0]) == []


@pytest.mark.parametrize(
    ("sign", "when"), [(signal.SIGTERM, "An installation"), (signal.SIGINT, "January")], ids=["a kill", "Ctrl-C"]
)
def test_stopping_it_leaves_nothing_behind(tmp_path: Path, sign: signal.Signals, when: str) -> None:
    process = run(tmp_path, "--quick")
    assert process.stdout
    while when not in (line := process.stdout.readline()):
        assert line, "the demo ended early"
    process.send_signal(sign)
    output, _ = process.communicate(timeout=60)

    assert process.returncode == 130, output
    deadline = time.monotonic() + 5
    while of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert of(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_start_that_fails_says_why_and_ends_with_1(tmp_path: Path) -> None:
    broken = tmp_path / "services"
    broken.mkdir()
    (broken / "__init__.py").write_text("")
    (broken / "__main__.py").write_text("raise SystemExit('the disk is full')\n")
    # The demo starts `python -m services`: another one comes first here.
    process = run(tmp_path, "--quick", PYTHONSAFEPATH="1", PYTHONPATH=f"{tmp_path}:{ROOT}:{ROOT}/sdk")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the disk is full" in output
    assert "the installation is kept in" in output
