"""Expectations of data sets, and what came of them."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0011", "0010", None, None
_TIME = sa.DateTime(timezone=True)


def _scoped(name: str, *columns: "sa.Column[object]") -> None:
    parts = ("tenant", "project", "data_set")
    op.create_table(name, *(sa.Column(part, sa.String(63), primary_key=True) for part in parts), *columns)


def upgrade() -> None:
    _scoped(
        "expectations",
        sa.Column("items", sa.JSON, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
    )
    _scoped(
        "expectation_check",
        sa.Column("check", sa.String(36), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("results", sa.JSON, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
    )


def downgrade() -> None:
    for name in ("expectation_check", "expectations"):
        op.drop_table(name)
