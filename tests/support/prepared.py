"""Databases as a first start leaves them: made once by their migrations, then copied, which is ten times as quick."""

import asyncio
import atexit
import functools
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.kit.db import Database

_SERVICES = Path(__file__).parents[2] / "services"


def prepare(home: Path, *names: str) -> None:
    """Puts the databases of services, and of the near bus ("bus"), into a home that lacks them."""
    for name in names:
        if not (home / f"{name}.db").exists():
            shutil.copyfile(_made(name), home / f"{name}.db")


@functools.cache
def _folder() -> Path:
    made = tempfile.mkdtemp(prefix="aimass-prepared-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


@functools.cache
def _made(name: str) -> Path:
    """A database that its service would take for its own, without rows."""
    migrations = _SERVICES / ("kit/bus_migrations" if name == "bus" else f"{name}/migrations")
    path = _folder() / f"{name}.db"

    async def migrate() -> None:
        database = Database(f"sqlite:///{path}", migrations)
        await database.start()
        database.close()

    with ThreadPoolExecutor(1) as apart:  # whoever asks may be in a loop
        apart.submit(asyncio.run, migrate()).result()
    return path
