"""Schema changes, by Alembic. Imported only when a database is behind."""

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine
from sqlalchemy.engine import Connection

# Alembic keeps what it works on in a module of its own, and the databases of a process open side by side.
_ONE_AT_A_TIME = threading.Lock()


def upgrade(engine: Engine, folder: Path, revision: str = "head") -> None:
    """Runs the revisions of a folder that a database lacks, in one transaction."""
    with engine.begin() as connection:
        bring_up(connection, folder, revision)


def bring_up(connection: Connection, folder: Path, revision: str = "head") -> None:
    """The same, in the caller's transaction."""
    _run(connection, folder, "upgrade", revision)


def downgrade(engine: Engine, folder: Path, revision: str) -> None:
    """Takes revisions back, down to the one named; `base`: all of them."""
    with engine.begin() as connection:
        _run(connection, folder, "downgrade", revision)


def _run(connection: Connection, folder: Path, verb: str, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "alembic"))
    config.set_main_option("version_locations", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    with _ONE_AT_A_TIME:
        config.attributes["connection"] = connection
        getattr(command, verb)(config, revision)
