"""Versions of policies, and which of them count."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0011", "0010", None, None
_TIME = sa.DateTime(timezone=True)


def _scoped(name: str, *columns: "sa.Column[object]") -> None:
    scope = [sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project")]
    op.create_table(name, *scope, *columns)


def upgrade() -> None:
    _scoped(
        "policy_version",
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("description", sa.String(1000), nullable=False),
        sa.Column("rules", sa.JSON, nullable=False),
        sa.Column("examples", sa.JSON, nullable=False),
        sa.Column("doubts", sa.JSON, nullable=False),
        sa.Column("principal", sa.String(400), nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("test_time", _TIME),
    )
    _scoped(
        "policy_active",
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("principal", sa.String(400), nullable=False),
        sa.Column("activate_time", _TIME, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("policy_active")
    op.drop_table("policy_version")
