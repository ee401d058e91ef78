"""Series sets."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0019", "0018", None, None


def upgrade() -> None:
    op.create_table(
        "series_set",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("series_set", sa.String(63), primary_key=True),
        sa.Column("description", sa.String(1000), nullable=False),
        sa.Column("data_set", sa.String(63), nullable=False),
        sa.Column("output", sa.String(63), nullable=False),
        sa.Column("keys", sa.JSON, nullable=False),
        sa.Column("time", sa.String(128), nullable=False),
        sa.Column("features", sa.JSON, nullable=False),
        sa.Column("latest_version", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delete_time", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "series_set_version",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("series_set", sa.String(63), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    op.create_index("series_set_version_operation", "series_set_version", ["operation"], unique=True)
    op.create_table(
        "series_set_run",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("series_set", sa.String(63), primary_key=True),
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("definition", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    for table in ("series_set_run", "series_set_version", "series_set"):
        op.drop_table(table)
