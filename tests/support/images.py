"""The image that `make up` builds, with the code of this checkout and an entry of the tests in it."""

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from tests.support.server import ROOT

IMAGE = os.environ.get("AIMASS_TEST_IMAGE", "aimass:local")


def engine() -> bool:
    """Whether a container engine answers."""
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=30).returncode == 0


def composes() -> bool:
    """Whether docker has compose, which is a part of its own: docker without it calls `compose -f` a wrong flag."""
    if not shutil.which("docker"):
        return False
    version = ["docker", "compose", "version"]
    return subprocess.run(version, capture_output=True, check=False, timeout=30).returncode == 0


@cache
def missing() -> str:
    """Why no container can be had; empty if one can."""
    if not engine():
        return "no container engine answers"
    found = subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False, timeout=30)
    return f"no image {IMAGE}: make image builds it" if found.returncode else ""


@cache
def built() -> str:
    """The id of an image whose entry is tests.trainer.entry; a visible skip when there is none to begin with."""
    if why := missing():
        pytest.skip(why)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "services", Path(folder, "services"), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "tests/trainer/entry.py", folder)
        lines = (f"FROM {IMAGE}", "COPY services /app/services", "COPY entry.py /app/tests/trainer/entry.py")
        Path(folder, "Dockerfile").write_text("\n".join(lines))
        done = subprocess.run(
            ["docker", "build", "-q", folder], capture_output=True, text=True, timeout=300, check=True
        )
    return done.stdout.strip().splitlines()[-1]
