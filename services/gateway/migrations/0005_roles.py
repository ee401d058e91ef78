"""Roles, bindings, and keys that have roles."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0005", "0004", None, None
_TIME = sa.DateTime(timezone=True)


def _scoped(name: str, *columns: "sa.Column[object]") -> None:
    scope = [sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project")]
    op.create_table(name, *scope, *columns)


def upgrade() -> None:
    _scoped(
        "role",
        sa.Column("role", sa.String(63), primary_key=True),
        sa.Column("description", sa.String(1000), nullable=False),
        sa.Column("permissions", sa.JSON, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.Column("delete_time", _TIME),
    )
    _scoped(
        "binding",
        sa.Column("binding", sa.String(63), primary_key=True),
        sa.Column("role", sa.String(63), nullable=False),
        sa.Column("principal", sa.String(100), nullable=False),
        sa.Column("projects", sa.JSON, nullable=False),
        sa.Column("objects", sa.JSON, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("delete_time", _TIME),
    )
    # A gateway of the release before goes on making keys while it is replaced: theirs have no roles.
    op.add_column("api_key", sa.Column("roles", sa.JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("api_key", "roles")
    op.drop_table("binding")
    op.drop_table("role")
