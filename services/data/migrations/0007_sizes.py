"""Sizes of uploads."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0007", "0006", None, None


def upgrade() -> None:
    op.add_column("upload", sa.Column("size", sa.BigInteger))


def downgrade() -> None:
    op.drop_column("upload", "size")
