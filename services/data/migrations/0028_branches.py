"""Branches of data sets, files that they share, and where extractions of a branch go on."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0028", "0027", None, None


def upgrade() -> None:
    op.add_column("data_set", sa.Column("branch_of", sa.String(63), nullable=False, server_default=""))
    op.add_column("data_set", sa.Column("branch_version", sa.Integer, nullable=False, server_default="0"))
    op.create_index("data_set_branch_of", "data_set", ["tenant", "project", "branch_of"])
    op.add_column("data_set_file", sa.Column("home", sa.String(63), nullable=False, server_default=""))
    op.add_column("extraction", sa.Column("branch", sa.String(63), nullable=False, server_default=""))
    op.create_table(
        "branch_cursor",
        *[sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project", "branch", "rule")],
        sa.Column("place", sa.String(71), nullable=False),
        sa.Column("cursor", sa.JSON, nullable=False),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("moved", sa.Boolean, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("branch_cursor")
    op.drop_column("extraction", "branch")
    op.drop_column("data_set_file", "home")
    op.drop_index("data_set_branch_of", "data_set")
    for column in ("branch_version", "branch_of"):
        op.drop_column("data_set", column)
