"""The log and the offsets of its groups."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0001", None, None, None


def upgrade() -> None:
    op.create_table(
        "record",
        sa.Column("offset", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("topic", sa.String, nullable=False, index=True),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("headers", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("time", sa.Float, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "group_offset",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("topic", sa.String, primary_key=True),
        sa.Column("offset", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("group_offset")
    op.drop_table("record")
