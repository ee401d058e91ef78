"""The client certificates that a key is for."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0009", "0008", None, None


def upgrade() -> None:
    # A gateway of the release before goes on making keys while it is replaced: theirs need none.
    op.add_column("api_key", sa.Column("certificates", sa.JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("api_key", "certificates")
