"""Sources, uploads, rules and extractions."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None
_TIME = sa.DateTime(timezone=True)


def _scoped(name: str, *columns: "sa.Column[object]") -> None:
    scope = [sa.Column(part, sa.String(63), primary_key=True) for part in ("tenant", "project")]
    op.create_table(name, *scope, *columns)


def upgrade() -> None:
    _scoped(
        "source",
        sa.Column("source", sa.String(63), primary_key=True),
        sa.Column("description", sa.String(1000), nullable=False),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.Column("delete_time", _TIME),
    )
    _scoped(
        "upload",
        sa.Column("upload", sa.String(36), primary_key=True),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
    )
    op.create_index("upload_digest", "upload", ["tenant", "project", "digest"])
    _rules()
    _extractions()


def _rules() -> None:
    _scoped(
        "rule",
        sa.Column("rule", sa.String(63), primary_key=True),
        sa.Column("source", sa.String(63), nullable=False),
        sa.Column("data_set", sa.String(63), nullable=False),
        sa.Column("latest_version", sa.Integer, nullable=False),
        sa.Column("active_version", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.Column("delete_time", _TIME),
    )
    op.create_index("rule_data_set", "rule", ["tenant", "project", "data_set"], unique=True)
    _scoped(
        "rule_version",
        sa.Column("rule", sa.String(63), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("compiled", sa.JSON, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
    )


def _extractions() -> None:
    _scoped(
        "extraction",
        sa.Column("extraction", sa.String(36), primary_key=True),
        sa.Column("rule", sa.String(63), nullable=False),
        sa.Column("rule_version", sa.Integer, nullable=False),
        sa.Column("source", sa.String(63), nullable=False),
        sa.Column("data_set", sa.String(63), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("records_read", sa.BigInteger, nullable=False),
        sa.Column("rows_accepted", sa.BigInteger, nullable=False),
        sa.Column("rows_quarantined", sa.BigInteger, nullable=False),
        sa.Column("data_set_version", sa.Integer, nullable=False),
        sa.Column("error", sa.String(1000), nullable=False),
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("task", sa.JSON, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("end_time", _TIME),
    )
    op.create_index("extraction_state", "extraction", ["state"])
    running = sa.text("state = 'running'")
    columns = ["tenant", "project", "rule"]
    op.create_index(
        "extraction_running", "extraction", columns, unique=True, sqlite_where=running, postgresql_where=running
    )
    _scoped(
        "extraction_cursor",
        sa.Column("rule", sa.String(63), primary_key=True),
        sa.Column("place", sa.String(71), nullable=False),
        sa.Column("cursor", sa.JSON, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
    )


def downgrade() -> None:
    for table in ("extraction_cursor", "extraction", "rule_version", "rule", "upload", "source"):
        op.drop_table(table)
