"""What long work uses of processors."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0006", "0005", None, None


def upgrade() -> None:
    op.create_table(
        "effort",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("operation", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("principal", sa.String(210), nullable=False),
        sa.Column("most_milliseconds", sa.BigInteger, nullable=False),
        sa.Column("children", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("effort")
