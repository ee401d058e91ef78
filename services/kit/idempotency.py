"""Repeats of a call (RELIABILITY S2): one effect and one answer for one key.

The row lives in the transaction of the effect, so an effect without its row, or a row without its effect, cannot be.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import Column, LargeBinary, MetaData, String, Table, delete, insert, select
from sqlalchemy.engine import Connection

from services.kit.db import Replay, UtcDateTime
from services.kit.errors import Code, Failure

LIFETIME = timedelta(hours=24)


class IdempotencyTable:
    """The keys that a service's database has seen."""

    def __init__(self, metadata: MetaData) -> None:
        self.table = Table(
            "idempotency_key",
            metadata,
            Column("scope", String(64), primary_key=True),
            Column("fingerprint", String(64), nullable=False),
            Column("reply", LargeBinary, nullable=False),
            Column("expire_time", UtcDateTime, nullable=False),
        )

    def once(self, who: str, key: str, request: Message, now: datetime, to_wire: Callable[[Any], Message]) -> "Keyed":
        """What a keyed call hands to the database: `to_wire` makes the reply to keep out of the use case's result."""
        scope = hashlib.sha256(f"{who}\0{key}".encode()).hexdigest()
        fingerprint = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
        return Keyed(self.table, scope, fingerprint, now, to_wire)


@dataclass(frozen=True)
class Keyed:
    """One key with one request."""

    _table: Table
    _scope: str
    _fingerprint: str
    _now: datetime
    _to_wire: Callable[[Any], Message]

    def claim(self, connection: Connection) -> None:
        """Raises Replay for the same request, key_reused for another one."""
        connection.execute(delete(self._table).where(self._table.c.expire_time < self._now))
        found = connection.execute(select(self._table).where(self._table.c.scope == self._scope)).first()
        if found is None:
            return
        if found.fingerprint != self._fingerprint:
            raise Failure(Code.KEY_REUSED, "the idempotency key was used for another request")
        raise Replay(found.reply)

    def settle(self, connection: Connection, result: Any) -> None:
        """Keeps the answer."""
        row = {
            "scope": self._scope,
            "fingerprint": self._fingerprint,
            "reply": self._to_wire(result).SerializeToString(),
            "expire_time": self._now + LIFETIME,
        }
        connection.execute(insert(self._table).values(row))
