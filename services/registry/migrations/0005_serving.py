"""How a version wants to be run."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0005", "0004", None, None


def upgrade() -> None:
    op.add_column("version", sa.Column("serving", sa.JSON, nullable=False, server_default="{}"))


def downgrade() -> None:
    op.drop_column("version", "serving")
