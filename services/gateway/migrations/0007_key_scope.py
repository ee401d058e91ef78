"""Where a key is believed and which models it is for, and the secret that it had before."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0007", "0006", None, None


def upgrade() -> None:
    # A gateway of the release before goes on making keys while it is replaced: theirs are for all.
    for name in ("addresses", "models"):
        op.add_column("api_key", sa.Column(name, sa.JSON, nullable=False, server_default="[]"))
    op.add_column("api_key", sa.Column("old_digest", sa.LargeBinary))
    op.add_column("api_key", sa.Column("old_expire_time", sa.DateTime(timezone=True)))
    op.add_column("api_key", sa.Column("rotate_time", sa.DateTime(timezone=True)))


def downgrade() -> None:
    for name in ("rotate_time", "old_expire_time", "old_digest", "models", "addresses"):
        op.drop_column("api_key", name)
