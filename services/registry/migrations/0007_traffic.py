"""How the requests for a model are shared among its versions."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0007", "0006", None, None


def upgrade() -> None:
    op.add_column("release", sa.Column("traffic", sa.JSON, nullable=False, server_default="{}"))
    op.add_column("release", sa.Column("shared", sa.JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("release", "shared")
    op.drop_column("release", "traffic")
