"""Files that belong to rows: what became of the places that columns name, and which files data sets have."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0026", "0025", None, None


def upgrade() -> None:
    scope = [(part, 63) for part in ("tenant", "project", "data_set")]
    op.create_table(
        "attachment",
        *[sa.Column(name, sa.String(size), primary_key=True) for name, size in (*scope, ("entry", 64))],
        sa.Column("column", sa.String(128), nullable=False),
        sa.Column("digests", sa.String(128), nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(200), nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("media_type", sa.String(100), nullable=False),
        sa.Column("extraction", sa.String(64), nullable=False),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("attachment_state", "attachment", ["tenant", "project", "data_set", "state", "entry"])
    op.create_table(
        "attachment_file",
        *[
            sa.Column(name, sa.String(size), primary_key=True)
            for name, size in (*scope, ("digest", 71), ("column", 128), ("digests", 128))
        ],
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("media_type", sa.String(100), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("attachment_file")
    op.drop_table("attachment")
