"""Feature searches under way."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0022", "0021", None, None


def upgrade() -> None:
    op.create_table(
        "feature_search",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("operation", sa.String(64), primary_key=True),
        sa.Column("definition", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("feature_search")
