"""What a version is, for those who decide on it by its kind."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0006", "0005", None, None


def upgrade() -> None:
    op.add_column("version", sa.Column("labels", sa.JSON, nullable=False, server_default="{}"))


def downgrade() -> None:
    op.drop_column("version", "labels")
