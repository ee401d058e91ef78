"""Recipes, their versions and runs."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0018", "0017", None, None
_TIME = sa.DateTime(timezone=True)
_RUNNING = sa.text("state = 'running'")


def _scoped(name: str, *columns: "sa.Column[object]") -> None:
    scope = [sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project")]
    op.create_table(name, *scope, *columns)


def upgrade() -> None:
    _scoped(
        "recipe",
        sa.Column("recipe", sa.String(63), primary_key=True),
        sa.Column("description", sa.String(1000), nullable=False),
        sa.Column("data_set", sa.String(63), nullable=False),
        sa.Column("output", sa.String(63), nullable=False),
        sa.Column("latest_version", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.Column("delete_time", _TIME),
    )
    _scoped(
        "recipe_version",
        sa.Column("recipe", sa.String(63), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("steps", sa.JSON, nullable=False),
        sa.Column("learned", sa.JSON, nullable=False),
        sa.Column("learned_from", sa.Integer, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
    )
    _scoped(
        "recipe_run",
        sa.Column("run", sa.String(36), primary_key=True),
        sa.Column("recipe", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("data_set", sa.String(63), nullable=False),
        sa.Column("data_set_version", sa.Integer, nullable=False),
        sa.Column("output", sa.String(63), nullable=False),
        sa.Column("output_version", sa.Integer, nullable=False),
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("report", sa.JSON, nullable=False),
        sa.Column("rows_in", sa.BigInteger, nullable=False),
        sa.Column("rows_out", sa.BigInteger, nullable=False),
        sa.Column("quarantined", sa.BigInteger, nullable=False),
        sa.Column("duplicates", sa.BigInteger, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("end_time", _TIME),
    )
    op.create_index("recipe_run_state", "recipe_run", ["state"])
    op.create_index(
        "recipe_run_running",
        "recipe_run",
        ["tenant", "project", "recipe"],
        unique=True,
        sqlite_where=_RUNNING,
        postgresql_where=_RUNNING,
    )


def downgrade() -> None:
    for table in ("recipe_run", "recipe_version", "recipe"):
        op.drop_table(table)
