"""Passwords of sources, encrypted."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0012", "0011", None, None


def upgrade() -> None:
    op.add_column("source", sa.Column("secret", sa.LargeBinary))


def downgrade() -> None:
    op.drop_column("source", "secret")
