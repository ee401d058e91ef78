"""Owners of data sets, changes that they refuse, and the text that they are found by."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0010", "0009", None, None


def upgrade() -> None:
    op.add_column("data_set", sa.Column("owner", sa.String(200), nullable=False, server_default=""))
    op.add_column("data_set", sa.Column("refused_changes", sa.JSON, nullable=False, server_default="[]"))
    op.add_column("data_set", sa.Column("searched", sa.Text))


def downgrade() -> None:
    for name in ("searched", "refused_changes", "owner"):
        op.drop_column("data_set", name)
