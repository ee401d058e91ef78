"""The logs service's database: its metadata, where it is, and how far those who follow the records have come."""

from pathlib import Path

from sqlalchemy import BigInteger, Column, String, Table, delete, insert, select
from sqlalchemy.engine import Connection

from services.kit.db import Database
from services.kit.schema import Schema

schema = Schema("logs")
Place = tuple[int, int]
_followers = Table(
    "follower",
    schema.metadata,
    Column("name", String(40), primary_key=True),
    Column("segment", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),
)


def open_database(url: str, home: Path) -> Database:
    """The database at a URL, or the SQLite file in the home folder."""
    return Database(url or f"sqlite:///{home}/logs.db", Path(__file__).parent / "migrations")


def followed(connection: Connection, name: str) -> Place:
    """Up to which segment and offset a slice has followed the records."""
    row = connection.execute(select(_followers).where(_followers.c.name == name)).first()
    return (row.segment, row.offset) if row else (0, 0)


def note_followed(connection: Connection, name: str, place: Place) -> None:
    """Notes it, in the transaction of what was made of the records."""
    connection.execute(delete(_followers).where(_followers.c.name == name))
    connection.execute(insert(_followers).values(name=name, segment=place[0], offset=place[1]))
