"""Predictions of which many are a row."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0007", "0006", None, None


def upgrade() -> None:
    op.create_table(
        "prediction_table",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("first", sa.String(36), primary_key=True),
        sa.Column("last", sa.String(36), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("ids", sa.LargeBinary, nullable=False),
        sa.Column("scores", sa.LargeBinary, nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("prediction_table_version", "prediction_table", ["tenant", "project", "model", "version"])


def downgrade() -> None:
    op.drop_table("prediction_table")
