"""Fixtures of the data service. Databases are copied into a home folder: making them takes longer than most tests."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from aimass.v1.rules_pb2_grpc import RulesStub
from tests.support.house import House, house


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home as a first start leaves it."""
    folder = tmp_path_factory.mktemp("migrated")

    async def start() -> None:
        async with house(folder, "data"):
            pass

    asyncio.run(start())
    return folder


@pytest.fixture
def home(tmp_path: Path, migrated: Path) -> Path:
    """A copy of it."""
    for database in ("data.db", "bus.db"):
        if (migrated / database).exists():  # not where every service has a database on a server
            shutil.copy(migrated / database, tmp_path)
    return tmp_path


@pytest.fixture
def rules(running: House) -> Any:
    """The rules of a service that a module of tests has running."""
    return running.stub(RulesStub, "data")
