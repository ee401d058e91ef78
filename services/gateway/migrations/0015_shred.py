"""Since when a tenant has no keys any more."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0015", "0014", None, None


def upgrade() -> None:
    op.add_column("tenant", sa.Column("shred_time", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("tenant", "shred_time")
