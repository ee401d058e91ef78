"""Writes into tables of databases of others that are under way."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0030", "0029", None, None


def upgrade() -> None:
    op.create_table(
        "table_write",
        *[sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project")],
        sa.Column("operation", sa.String(64), primary_key=True),
        sa.Column("definition", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("table_write")
