"""Feature views, and the newest row of each of their entities."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0017", "0016", None, None
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "feature_view",
        *_key("tenant", "project", "feature_view"),
        sa.Column("description", sa.String(1000), nullable=False),
        sa.Column("latest_version", sa.Integer, nullable=False),
        sa.Column("serving_version", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.Column("delete_time", _TIME),
    )
    op.create_table(
        "feature_view_version",
        *_key("tenant", "project", "feature_view"),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("data_set_version", sa.Integer, nullable=False),
        sa.Column("materialise_time", _TIME),
        sa.Column("newest_event_time", _TIME),
    )
    op.create_table(
        "feature_view_run",
        *_key("tenant", "project"),
        sa.Column("operation", sa.String(64), primary_key=True),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("progress", sa.JSON, nullable=False),
    )
    op.create_table(
        "feature_row",
        *_key("tenant", "project", "feature_view"),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("event_time", sa.BigInteger, nullable=False),
        sa.Column("data_set_version", sa.Integer, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    for name in ("feature_row", "feature_view_run", "feature_view_version", "feature_view"):
        op.drop_table(name)


def _key(*names: str) -> list["sa.Column[str]"]:
    return [sa.Column(name, sa.String(63), primary_key=True) for name in names]
