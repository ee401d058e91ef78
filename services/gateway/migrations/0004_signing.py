"""How requests of a key are signed: whether they must be, a public key, or a secret that is sealed."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0004", "0003", None, None


def upgrade() -> None:
    op.add_column("api_key", sa.Column("signs", sa.Boolean))
    op.add_column("api_key", sa.Column("public_key", sa.LargeBinary))
    op.add_column("api_key", sa.Column("signing_secret", sa.LargeBinary))


def downgrade() -> None:
    for name in ("signing_secret", "public_key", "signs"):
        op.drop_column("api_key", name)
