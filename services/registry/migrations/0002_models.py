"""Models, their versions, uploads and who may read which artifact."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0002", "0001", None, None
_TIME = sa.DateTime(timezone=True)


def _scope() -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String(63), primary_key=True) for name in ("tenant", "project")]


def upgrade() -> None:
    op.create_table(
        "model",
        *_scope(),
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("description", sa.String(1000), nullable=False),
        sa.Column("latest_version", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.Column("delete_time", _TIME),
    )
    op.create_table(
        "version",
        *_scope(),
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("wanted", sa.Boolean, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("environment", sa.JSON, nullable=False),
        sa.Column("card", sa.Text, nullable=False),
        sa.Column("run", sa.String(36), nullable=False),
        sa.Column("job", sa.String(36)),
        sa.Column("feature_set", sa.String(100), nullable=False),
        sa.Column("data_set", sa.String(100), nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("delete_time", _TIME),
        sa.UniqueConstraint("tenant", "project", "job", name="version_job"),
    )
    op.create_table(
        "upload",
        *_scope(),
        sa.Column("upload", sa.String(36), primary_key=True),
        sa.Column("create_time", _TIME, nullable=False),
    )
    op.create_table(
        "artifact",
        *_scope(),
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("create_time", _TIME, nullable=False),
    )


def downgrade() -> None:
    for name in ("artifact", "upload", "version", "model"):
        op.drop_table(name)
