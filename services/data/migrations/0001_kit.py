"""The tables that every service has."""

from alembic import op

from services.kit import schema

revision, down_revision, branch_labels, depends_on = "0001", None, None, None


def upgrade() -> None:
    schema.create_0001(op)


def downgrade() -> None:
    schema.drop_0001(op)
