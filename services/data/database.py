"""The data service's database: its metadata, and where it is."""

from pathlib import Path

from services.kit.db import Database
from services.kit.schema import Schema

schema = Schema("data")


def open_database(url: str, home: Path) -> Database:
    """The database at a URL, or the SQLite file in the home folder."""
    return Database(url or f"sqlite:///{home}/data.db", Path(__file__).parent / "migrations")
