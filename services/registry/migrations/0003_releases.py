"""Releases."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0003", "0002", None, None


def upgrade() -> None:
    op.create_table(
        "release",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("desired", sa.JSON),
        sa.Column("serving", sa.JSON),
        sa.Column("previous", sa.JSON),
        sa.Column("reason", sa.String(1000), nullable=False),
        sa.Column("operation", sa.String(64), nullable=False, index=True),
        sa.Column("deadline", sa.DateTime(timezone=True)),
        sa.Column("applied", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("release")
