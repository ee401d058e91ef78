"""Bindings of users and groups, whose names are longer than those of keys."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0006", "0005", None, None


def upgrade() -> None:
    _widen(400)


def downgrade() -> None:
    _widen(100)


def _widen(length: int) -> None:
    if op.get_bind().dialect.name != "sqlite":  # which keeps no lengths
        op.alter_column("binding", "principal", type_=sa.String(length))
