"""Quotas, what is spent and reserved of them, the ledger, and prices."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0008", "0007", None, None
_TIME = sa.DateTime(timezone=True)
_METERS = ("requests", "rows", "cpu_milliseconds", "money_micros")


def _scoped(name: str, *columns: "sa.Column[object]") -> None:
    scope = [sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project")]
    op.create_table(name, *scope, *columns)


def upgrade() -> None:
    _scoped(
        "quota",
        sa.Column("quota", sa.String(63), primary_key=True),
        sa.Column("subject", sa.String(210), nullable=False),
        sa.Column("meter", sa.String(32), nullable=False),
        sa.Column("period", sa.String(16), nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.Column("delete_time", _TIME),
    )
    _scoped(
        "quota_balance",
        sa.Column("quota", sa.String(63), primary_key=True),
        sa.Column("start", _TIME, primary_key=True),
        sa.Column("spent", sa.BigInteger, nullable=False),
        sa.Column("reserved", sa.BigInteger, nullable=False),
    )
    amounts: list[sa.Column[object]] = [
        sa.Column(f"{what}_{meter}", sa.BigInteger, nullable=False)
        for what in ("reserved", "used")
        for meter in _METERS
    ]
    _scoped(
        "ledger",
        sa.Column("entry", sa.String(36), primary_key=True),
        sa.Column("principal", sa.String(210), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("reference", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(100), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        *amounts,
        sa.Column("estimated", sa.Boolean, nullable=False),
        sa.Column("prices", sa.Integer, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("expire_time", _TIME),
        sa.Column("settle_time", _TIME),
    )
    op.create_index("ledger_time", "ledger", ["tenant", "create_time"])
    op.create_index("ledger_state", "ledger", ["state", "expire_time"])
    op.create_index("ledger_reference", "ledger", ["tenant", "project", "kind", "reference"])
    _scoped(
        "price_list",
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("prices", sa.JSON, nullable=False),
        sa.Column("valid_from", _TIME, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
    )


def downgrade() -> None:
    for name in ("price_list", "ledger", "quota_balance", "quota"):
        op.drop_table(name)
