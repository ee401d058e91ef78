"""What is kept, in the ledger."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0016", "0015", None, None
_COLUMNS = ("reserved_storage_mib_hours", "used_storage_mib_hours")


def upgrade() -> None:
    # A gateway of the release before goes on making lines while it is replaced: theirs have none.
    for name in _COLUMNS:
        op.add_column("ledger", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))


def downgrade() -> None:
    for name in _COLUMNS:
        op.drop_column("ledger", name)
