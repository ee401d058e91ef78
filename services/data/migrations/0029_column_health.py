"""How often columns have no value, and where the last run of a rule began."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0029", "0028", None, None


def upgrade() -> None:
    op.add_column("rule_health", sa.Column("columns", sa.JSON, nullable=False, server_default="[]"))
    op.add_column("extraction_cursor", sa.Column("began", sa.JSON))


def downgrade() -> None:
    op.drop_column("extraction_cursor", "began")
    op.drop_column("rule_health", "columns")
