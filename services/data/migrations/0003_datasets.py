"""Data sets with versions, files and lineage; pipelines, their runs and cursors."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0003", "0002", None, None
_TIME = sa.DateTime(timezone=True)


def _scoped(name: str, *columns: "sa.Column[object]") -> None:
    scope = [sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project")]
    op.create_table(name, *scope, *columns)


def upgrade() -> None:
    _data_sets()
    _pipelines()


def _data_sets() -> None:
    _scoped(
        "data_set",
        sa.Column("data_set", sa.String(63), primary_key=True),
        sa.Column("description", sa.String(1000), nullable=False),
        sa.Column("latest_version", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.Column("delete_time", _TIME),
    )
    _scoped(
        "data_set_version",
        sa.Column("data_set", sa.String(63), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("rows_added", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("delta_version", sa.BigInteger, nullable=False),
        sa.Column("first_version", sa.Integer, nullable=False),
        sa.Column("columns", sa.JSON, nullable=False),
        sa.Column("quality", sa.JSON, nullable=False),
        sa.Column("sketches", sa.JSON, nullable=False),
        sa.Column("parents", sa.JSON, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
    )
    op.create_index("data_set_version_run", "data_set_version", ["tenant", "project", "data_set", "run"], unique=True)
    _scoped(
        "data_set_file",
        sa.Column("data_set", sa.String(63), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("quarantine", sa.Boolean, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("path", sa.String(300), nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
    )
    _scoped(
        "lineage_edge",
        sa.Column("from_kind", sa.String(20), primary_key=True),
        sa.Column("from_name", sa.String(63), primary_key=True),
        sa.Column("from_version", sa.Integer, primary_key=True),
        sa.Column("to_kind", sa.String(20), primary_key=True),
        sa.Column("to_name", sa.String(63), primary_key=True),
        sa.Column("to_version", sa.Integer, primary_key=True),
    )
    columns = ["tenant", "project", "to_kind", "to_name", "to_version"]
    op.create_index("lineage_edge_to", "lineage_edge", columns)


def _pipelines() -> None:
    _scoped(
        "pipeline",
        sa.Column("pipeline", sa.String(63), primary_key=True),
        sa.Column("description", sa.String(1000), nullable=False),
        sa.Column("steps", sa.JSON, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.Column("delete_time", _TIME),
    )
    _scoped(
        "pipeline_run",
        sa.Column("run", sa.String(36), primary_key=True),
        sa.Column("pipeline", sa.String(63), nullable=False),
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("steps", sa.JSON, nullable=False),
        sa.Column("inputs", sa.JSON, nullable=False),
        sa.Column("outputs", sa.JSON, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("end_time", _TIME),
    )
    op.create_index("pipeline_run_state", "pipeline_run", ["state"])
    running = sa.text("state = 'running'")
    columns = ["tenant", "project", "pipeline"]
    op.create_index(
        "pipeline_run_running", "pipeline_run", columns, unique=True, sqlite_where=running, postgresql_where=running
    )
    _scoped(
        "pipeline_cursor",
        sa.Column("pipeline", sa.String(63), primary_key=True),
        sa.Column("data_set", sa.String(63), primary_key=True),
        sa.Column("cursor", sa.JSON, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
    )


def downgrade() -> None:
    for table in ("pipeline_cursor", "pipeline_run", "pipeline"):
        op.drop_table(table)
    for table in ("lineage_edge", "data_set_file", "data_set_version", "data_set"):
        op.drop_table(table)
