"""Feature sets."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0004", "0003", None, None


def upgrade() -> None:
    op.create_table(
        "feature_set",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("feature_set", sa.String(63), primary_key=True),
        sa.Column("description", sa.String(1000), nullable=False),
        sa.Column("data_set", sa.String(63), nullable=False),
        sa.Column("label", sa.String(128), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("steps", sa.JSON, nullable=False),
        sa.Column("latest_version", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delete_time", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "feature_set_version",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("feature_set", sa.String(63), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("definition", sa.JSON, nullable=False),
    )
    op.create_index("feature_set_version_operation", "feature_set_version", ["operation"], unique=True)
    op.create_table(
        "feature_set_fit",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("operation", sa.String(64), primary_key=True),
        sa.Column("definition", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    for table in ("feature_set_fit", "feature_set_version", "feature_set"):
        op.drop_table(table)
