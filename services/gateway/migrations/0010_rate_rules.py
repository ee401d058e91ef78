"""Limits of tenants, routes and models."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0010", "0009", None, None
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "rate_rule",
        *[sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project", "rate_rule")],
        sa.Column("level", sa.String(20), nullable=False),
        sa.Column("counts", sa.String(20), nullable=False),
        sa.Column("rate", sa.Float, nullable=False),
        sa.Column("burst", sa.Float, nullable=False),
        sa.Column("in_project", sa.String(63), nullable=False),
        sa.Column("object", sa.String(150), nullable=False),
        sa.Column("imposed", sa.Boolean, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.Column("delete_time", _TIME),
    )


def downgrade() -> None:
    op.drop_table("rate_rule")
