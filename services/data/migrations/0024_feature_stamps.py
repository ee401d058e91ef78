"""When the rows of a version of a feature view were changed last."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0024", "0023", None, None


def upgrade() -> None:
    # Versions that are there may have rows: 0 would say that they have none.
    op.add_column("feature_view_version", sa.Column("stamp", sa.BigInteger, nullable=False, server_default="1"))


def downgrade() -> None:
    op.drop_column("feature_view_version", "stamp")
