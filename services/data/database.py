"""The data service's database: its metadata, and where it is."""

from pathlib import Path
from typing import TYPE_CHECKING

from services.kit.db import Database
from services.kit.schema import Schema

if TYPE_CHECKING:
    from services.kit.tls import Credentials

schema = Schema("data")


def open_database(url: str, home: Path, credentials: "Credentials | None" = None) -> Database:
    """The database at a URL, which is shown the credentials, or the SQLite file in the home folder."""
    return Database(url or f"sqlite:///{home}/data.db", Path(__file__).parent / "migrations", credentials=credentials)
