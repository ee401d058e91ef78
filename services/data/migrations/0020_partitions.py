"""Partitions of data sets, and rewrites under way."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0020", "0019", None, None


def upgrade() -> None:
    for table, column in (("data_set", "layout"), ("data_set_version", "layout")):
        op.add_column(table, sa.Column(column, sa.JSON))
    op.add_column("data_set_file", sa.Column("partition", sa.Integer))
    op.create_table(
        "data_set_rewrite",
        *[sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project")],
        sa.Column("operation", sa.String(64), primary_key=True),
        sa.Column("definition", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("data_set_rewrite")
    op.drop_column("data_set_file", "partition")
    for table in ("data_set", "data_set_version"):
        op.drop_column(table, "layout")
