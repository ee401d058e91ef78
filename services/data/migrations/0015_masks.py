"""Columns of data sets that only some callers see."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0015", "0014", None, None


def upgrade() -> None:
    op.add_column("data_set", sa.Column("masked_columns", sa.JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("data_set", "masked_columns")
