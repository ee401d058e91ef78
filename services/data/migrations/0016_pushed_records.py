"""Records that are pushed."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0016", "0015", None, None


def upgrade() -> None:
    op.create_table(
        "pushed_record",
        *[sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project", "source")],
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("record", sa.String(256), nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("pushed_record_id", "pushed_record", ["tenant", "project", "source", "record"], unique=True)


def downgrade() -> None:
    op.drop_table("pushed_record")
