"""The guides say what works: their blocks marked `run` are run, in order, against an installation."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from aimass import Client
from tests.support.server import ROOT, Server, serving

_BLOCK = re.compile(r"^```(python|sh) run\n(.*?)^```$", re.M | re.S)
GUIDES = sorted(path for path in (ROOT / "docs" / "guides").glob("*.md") if path.name != "README.md")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("guides") / "home") as found:
        yield found


@pytest.fixture
def env(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the reader's, and `aimass` among his commands."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, code in {"aimass": "-m aimass.cli", "python": ""}.items():
        command = commands / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" {code} "$@"\n')
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
    folder = tmp_path / "reader"
    folder.mkdir()
    monkeypatch.chdir(folder)
    known = {"AIMASS_URL": server.url, "AIMASS_KEY": server.key, "AIMASS_HOME": str(server.home), "HOME": str(folder)}
    known |= {"PATH": f"{commands}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT}:{ROOT}/sdk"}
    for name, value in known.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("env")
@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_what_a_guide_shows_works(guide: Path) -> None:
    blocks, names = _BLOCK.findall(guide.read_text()), dict[str, Any]()
    assert blocks
    with ExitStack() as left:
        left.callback(closed, names)
        for number, (language, text) in enumerate(blocks):
            if language == "python":
                exec(compile(text, f"{guide.name}, block {number}", "exec"), names)
            else:
                done = subprocess.run(["bash", "-euxo", "pipefail", "-c", text], capture_output=True, text=True)
                assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{written()}"


def written() -> str:
    """What lies in the reader's folder: commands that fail there may have said why into a file."""
    small = [path for path in Path().iterdir() if path.is_file() and path.stat().st_size < 4096]
    return "\n".join(f"{path}: {path.read_bytes().decode(errors='replace')}" for path in small)


def closed(names: dict[str, Any]) -> None:
    """Clients that a guide leaves open, whether it worked or not."""
    for found in names.values():
        if isinstance(found, Client):
            found.close()
