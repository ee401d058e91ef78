"""Repeats of a call (RELIABILITY S2): one effect and one answer for one key.

The row lives in the transaction of the effect, so an effect without its row, or a row without its effect, cannot be.
"""

import copy
import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import Column, LargeBinary, MetaData, String, Table, bindparam, delete, select, update
from sqlalchemy.engine import Connection

from services.kit.db import Replay, UtcDateTime
from services.kit.errors import Code, FailedPrecondition, Failure
from services.kit.secrets import Vault
from services.kit.statements import Claim

log = logging.getLogger(__name__)
LIFETIME = timedelta(hours=24)
_PRUNE_EVERY = 600.0  # seconds


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
        here = self.table.c.scope == bindparam("here")
        self.find = select(self.table).where(here)
        self.again = update(self.table).where(here & (self.table.c.expire_time < bindparam("now")))
        self.answer = update(self.table).where(here).values(reply=bindparam("answer"))
        self.claim = Claim(self.table)
        self._pruned = 0.0
        self._vault: Vault | None = None

    def sealing(self, vault: Vault) -> "IdempotencyTable":
        """The same table for a process that has a vault: answers that show a secret lie in it sealed."""
        found = copy.copy(self)
        found._vault = vault
        return found

    def once(
        self,
        who: str,
        key: str,
        request: Message,
        now: datetime,
        to_wire: Callable[[Any], Message],
        secret: bool = False,
    ) -> "Keyed":
        """What a keyed call hands to the database: `to_wire` makes the reply to keep out of the use case's result.

        A `secret` reply is kept sealed; without a vault it is not kept at all, so this raises RuntimeError.
        """
        if secret and not self._vault:
            raise RuntimeError("an answer with a secret needs a vault")
        scope = hashlib.sha256(f"{who}\0{key}".encode()).hexdigest()
        fingerprint = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
        return Keyed(self, scope, fingerprint, now, to_wire, self._vault if secret else None)

    def prune(self, connection: Connection, now: datetime) -> None:
        """Forgets keys whose time is over, now and then: a look at all of them is in every other call's way."""
        if time.monotonic() - self._pruned > _PRUNE_EVERY:
            self._pruned = time.monotonic()
            connection.execute(delete(self.table).where(self.table.c.expire_time < now))


@dataclass(frozen=True)
class Keyed:
    """One key with one request."""

    _keys: IdempotencyTable
    _scope: str
    _fingerprint: str
    _now: datetime
    _to_wire: Callable[[Any], Message]
    _vault: Vault | None = None

    def recall(self, connection: Connection) -> None:
        """Raises Replay for the same request, key_reused for another one.

        Raises failed_precondition where the answer lies sealed with a key that is not this process's.
        """
        found = connection.execute(self._keys.find, {"here": self._scope}).first()
        if found is None or found.expire_time < self._now:
            return
        if found.fingerprint != self._fingerprint:
            raise Failure(Code.KEY_REUSED, "the idempotency key was used for another request")
        raise Replay(self._opened(found.reply) if self._vault else found.reply)

    def _opened(self, reply: bytes) -> bytes:
        assert self._vault
        try:
            return self._vault.open(reply, self._scope)
        except ValueError:
            log.error("a stored answer cannot be decrypted: AIMASS_SECRETS_KEY has changed or differs among processes")
            raise FailedPrecondition("the call had its effect; its answer cannot be shown again here") from None

    def claim(self, connection: Connection) -> None:
        """The same; of several at a time one goes on, and the others wait for what comes of it."""
        self._keys.prune(connection, self._now)
        row, stale = self._row(b""), {"here": self._scope, "now": self._now}
        # One whose time is over is taken by one of several, or was just forgotten.
        while not self._keys.claim.first(connection, row):
            self.recall(connection)
            if connection.execute(self._keys.again, row | stale).rowcount:
                return

    def settle(self, connection: Connection, result: Any) -> None:
        """Keeps the answer."""
        reply = self._to_wire(result).SerializeToString()
        if self._vault:
            reply = self._vault.seal(reply, self._scope)
        connection.execute(self._keys.answer, {"here": self._scope, "answer": reply})

    def _row(self, reply: bytes) -> dict[str, Any]:
        expire_time = self._now + LIFETIME
        return {"scope": self._scope, "fingerprint": self._fingerprint, "reply": reply, "expire_time": expire_time}
