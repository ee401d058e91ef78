"""Sizes of graphs of feature sets."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0008", "0007", None, None


def upgrade() -> None:
    op.add_column("feature_set_version", sa.Column("size", sa.BigInteger))


def downgrade() -> None:
    op.drop_column("feature_set_version", "size")
