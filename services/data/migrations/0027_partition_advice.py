"""What was asked of data sets, and advice under way."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0027", "0026", None, None

_COUNTS = ("queries", "partitions_read", "partitions", "files_read", "files", "bytes_read", "bytes")


def upgrade() -> None:
    op.create_table(
        "partition_advice",
        *[sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project")],
        sa.Column("operation", sa.String(64), primary_key=True),
        sa.Column("definition", sa.JSON, nullable=False),
    )
    op.create_table(
        "query_history",
        *[sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project", "data_set")],
        sa.Column("shape", sa.String(64), primary_key=True),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("weight", sa.Float, nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("columns", sa.Float, nullable=False),
        *[sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTS],
    )


def downgrade() -> None:
    op.drop_table("query_history")
    op.drop_table("partition_advice")
