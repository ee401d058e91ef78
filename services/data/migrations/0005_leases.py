"""Partitions of the outbox, and leases."""

from alembic import op

from services.kit import schema

revision, down_revision, branch_labels, depends_on = "0005", "0004", None, None


def upgrade() -> None:
    schema.create_0002(op)


def downgrade() -> None:
    schema.drop_0002(op)
