"""Filters of personal data."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0012", "0011", None, None
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "privacy_filter",
        *(sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project", "privacy_filter")),
        sa.Column("description", sa.String(1000), nullable=False),
        *(sa.Column(part, sa.JSON, nullable=False) for part in ("methods", "models", "streams")),
        sa.Column("answers", sa.Boolean, nullable=False),
        sa.Column("rules", sa.JSON, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.Column("delete_time", _TIME),
    )


def downgrade() -> None:
    op.drop_table("privacy_filter")
