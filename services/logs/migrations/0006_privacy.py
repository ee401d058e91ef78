"""Filters of personal data that the gateway told of."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0006", "0005", None, None


def upgrade() -> None:
    op.create_table(
        "privacy_filter",
        *(sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project", "privacy_filter")),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("privacy_filter")
