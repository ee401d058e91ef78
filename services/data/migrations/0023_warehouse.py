"""Raw records that land: which sources have them, how far they are, and runs that read them again."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0023", "0022", None, None

_NUMBERS = ("records_landed", "first_landed", "last_landed")
_TEXTS = {"origin": (16, "source"), "landed_data_set": (63, ""), "output_digest": (71, "")}


def upgrade() -> None:
    op.create_table(
        "landing",
        *[sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project", "source")],
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("shape", sa.JSON, nullable=False),
    )
    op.create_index("landing_run", "landing", ["tenant", "project", "source", "run"], unique=True)
    op.create_table(
        "landing_position",
        *[sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project", "source")],
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("place", sa.String(71), nullable=False),
        sa.Column("cursor", sa.JSON, nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
    )
    op.add_column("source", sa.Column("landed", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("data_set", sa.Column("landed_from", sa.String(63), nullable=False, server_default=""))
    for name in _NUMBERS:
        op.add_column("extraction", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    for name, (size, default) in _TEXTS.items():
        op.add_column("extraction", sa.Column(name, sa.String(size), nullable=False, server_default=default))


def downgrade() -> None:
    for name in (*_TEXTS, *_NUMBERS):
        op.drop_column("extraction", name)
    op.drop_column("data_set", "landed_from")
    op.drop_column("source", "landed")
    op.drop_table("landing_position")
    op.drop_table("landing")
