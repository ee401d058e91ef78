"""The tables that every service's database has beside the service's own, and where it is."""

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import MetaData

from services.kit.db import Database
from services.kit.idempotency import IdempotencyTable
from services.kit.inbox import Inbox
from services.kit.leases import Leases, Tenure
from services.kit.operations import Operations
from services.kit.outbox import NUMBER, Outbox

if TYPE_CHECKING:
    from services.kit.tls import Credentials


class Schema:
    """A service's metadata with outbox, inbox, idempotency keys, operations and leases in it."""

    def __init__(self, service: str) -> None:
        self._service = service
        self.metadata = MetaData()
        self.outbox = Outbox(self.metadata)
        self.inbox = Inbox(self.metadata)
        self.keys = IdempotencyTable(self.metadata)
        self.operations = Operations(service, self.metadata)
        self.tenure = Tenure(Leases(self.metadata))

    def database(self, url: str, home: Path, credentials: "Credentials | None" = None) -> Database:
        """The database at a URL, which is shown the credentials, or the SQLite file in the home folder."""
        migrations = Path(__file__).parents[1] / self._service / "migrations"
        return Database(url or f"sqlite:///{home}/{self._service}.db", migrations, credentials=credentials)


def create_0001(op: "object") -> None:
    """The first revision of these tables; a later change is a function of its own. `op` is Alembic's."""
    create, index = op.create_table, op.create_index  # type: ignore[attr-defined]
    create(
        "outbox",
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column("topic", sa.String(200), nullable=False),
        sa.Column("key", sa.String(400), nullable=False),
        sa.Column("headers", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    create(
        "inbox",
        sa.Column("event", sa.String(36), primary_key=True),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False, index=True),
    )
    create(
        "idempotency_key",
        sa.Column("scope", sa.String(64), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("reply", sa.LargeBinary, nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
    )
    create(
        "operation",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("operation", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("method", sa.String(200), nullable=False),
        sa.Column("resource", sa.String(300), nullable=False),
        sa.Column("progress", sa.Float, nullable=False),
        sa.Column("stage", sa.String(100), nullable=False),
        sa.Column("message", sa.String(1000), nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("response", sa.LargeBinary),
        sa.Column("error", sa.LargeBinary),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end_time", sa.DateTime(timezone=True)),
    )
    index("operation_state", "operation", ["state"])


def drop_0001(op: "object") -> None:
    """Takes the first revision back."""
    for name in ("operation", "idempotency_key", "inbox", "outbox"):
        op.drop_table(name)  # type: ignore[attr-defined]


def create_0002(op: "object") -> None:
    """Partitions of the outbox, and leases: several processes on one database."""
    op.add_column("outbox", sa.Column("partition", sa.SmallInteger, nullable=False, server_default="0"))  # type: ignore[attr-defined]
    op.create_index("outbox_partition", "outbox", ["partition", "id"])  # type: ignore[attr-defined]
    op.create_table(  # type: ignore[attr-defined]
        "lease",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("owner", sa.String(100), nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
    )


def drop_0002(op: "object") -> None:
    """Takes the second revision back."""
    op.drop_table("lease")  # type: ignore[attr-defined]
    op.drop_index("outbox_partition", "outbox")  # type: ignore[attr-defined]
    op.drop_column("outbox", "partition")  # type: ignore[attr-defined]
