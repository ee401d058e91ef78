"""The log centre's tables and its database, and the positions of those who follow the records."""

from sqlalchemy import BigInteger, Column, String, Table, delete, insert, select
from sqlalchemy.engine import Connection

from services.kit.schema import Schema

schema = Schema("logs")
open_database = schema.database
Place = tuple[int, int]
_followers = Table(
    "follower",
    schema.metadata,
    Column("name", String(40), primary_key=True),
    Column("segment", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),
)


def followed(connection: Connection, name: str) -> Place:
    """The position, segment and offset, up to which a slice has followed the records."""
    row = connection.execute(select(_followers).where(_followers.c.name == name)).first()
    return (row.segment, row.offset) if row else (0, 0)


def note_followed(connection: Connection, name: str, place: Place) -> None:
    """Writes the position, in the transaction of what was made of the records."""
    connection.execute(delete(_followers).where(_followers.c.name == name))
    connection.execute(insert(_followers).values(name=name, segment=place[0], offset=place[1]))
