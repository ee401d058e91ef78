"""A sample of what was decided, which policies are tried on."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0013", "0012", None, None


def upgrade() -> None:
    op.create_table(
        "decision",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("decision", sa.String(36), primary_key=True),
        sa.Column("facts", sa.JSON, nullable=False),
        sa.Column("rule", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("decision")
