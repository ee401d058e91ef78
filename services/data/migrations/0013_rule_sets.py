"""Rule sets, what they read, and the rules that belong to them."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0013", "0012", None, None
_TIME = sa.DateTime(timezone=True)


def _scoped(name: str, *columns: "sa.Column[object]") -> None:
    scope = [sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project")]
    op.create_table(name, *scope, *columns)


def upgrade() -> None:
    op.add_column("rule", sa.Column("rule_set", sa.String(63), nullable=False, server_default=""))
    op.create_index("rule_set_rules", "rule", ["tenant", "project", "rule_set"])
    _scoped(
        "rule_set",
        sa.Column("rule_set", sa.String(63), primary_key=True),
        sa.Column("source", sa.String(63), nullable=False),
        sa.Column("data_set", sa.String(63), nullable=False),
        sa.Column("latest_version", sa.Integer, nullable=False),
        sa.Column("active_version", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.Column("delete_time", _TIME),
    )
    op.create_index("rule_set_data_set", "rule_set", ["tenant", "project", "data_set"], unique=True)
    _scoped(
        "rule_set_version",
        sa.Column("rule_set", sa.String(63), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("members", sa.JSON, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
    )
    _scoped(
        "rule_set_cursor",
        sa.Column("rule_set", sa.String(63), primary_key=True),
        sa.Column("place", sa.String(71), nullable=False),
        sa.Column("cursor", sa.JSON, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
    )
    op.add_column("extraction", sa.Column("rule_set", sa.String(63), nullable=False, server_default=""))
    op.add_column("extraction", sa.Column("rule_set_version", sa.Integer, nullable=False, server_default="0"))
    op.add_column("extraction", sa.Column("shares", sa.JSON, nullable=False, server_default="{}"))
    _running("tenant", "project", "rule", "rule_set")


def _running(*columns: str) -> None:
    """One run at a time of a rule or of a set."""
    running = sa.text("state = 'running'")
    op.drop_index("extraction_running", "extraction")
    op.create_index(
        "extraction_running", "extraction", [*columns], unique=True, sqlite_where=running, postgresql_where=running
    )


def downgrade() -> None:
    op.execute("DELETE FROM extraction WHERE rule_set <> ''")
    _running("tenant", "project", "rule")
    for column in ("shares", "rule_set_version", "rule_set"):
        op.drop_column("extraction", column)
    for table in ("rule_set_cursor", "rule_set_version", "rule_set"):
        op.drop_table(table)
    op.drop_index("rule_set_rules", "rule")
    op.drop_column("rule", "rule_set")
