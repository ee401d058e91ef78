"""The log centre's database: its metadata, where it is, and the positions of those who follow the records."""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Column, String, Table, delete, insert, select
from sqlalchemy.engine import Connection

from services.kit.db import Database
from services.kit.schema import Schema

if TYPE_CHECKING:
    from services.kit.tls import Credentials

schema = Schema("logs")
Place = tuple[int, int]
_followers = Table(
    "follower",
    schema.metadata,
    Column("name", String(40), primary_key=True),
    Column("segment", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),
)


def open_database(url: str, home: Path, credentials: "Credentials | None" = None) -> Database:
    """The database at a URL, with client credentials, or the SQLite file in the home folder."""
    return Database(url or f"sqlite:///{home}/logs.db", Path(__file__).parent / "migrations", credentials=credentials)


def followed(connection: Connection, name: str) -> Place:
    """The position, segment and offset, up to which a slice has followed the records."""
    row = connection.execute(select(_followers).where(_followers.c.name == name)).first()
    return (row.segment, row.offset) if row else (0, 0)


def note_followed(connection: Connection, name: str, place: Place) -> None:
    """Writes the position, in the transaction of what was made of the records."""
    connection.execute(delete(_followers).where(_followers.c.name == name))
    connection.execute(insert(_followers).values(name=name, segment=place[0], offset=place[1]))
