"""Subscriptions, their deliveries, and how far those who follow the records have come."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "0003", "0001", None, None


def upgrade() -> None:
    op.create_table(
        "follower",
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("segment", sa.BigInteger, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "subscription",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("subscription", sa.String(63), primary_key=True),
        sa.Column("description", sa.String(1000), nullable=False),
        sa.Column("filter", sa.String(4096), nullable=False),
        sa.Column("url", sa.String(2000), nullable=False),
        sa.Column("subject", sa.String(500), nullable=False),
        sa.Column("body", sa.String(20000), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("delete_time", sa.DateTime(timezone=True)),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("secret", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "delivery",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("project", sa.String(63), primary_key=True),
        sa.Column("delivery", sa.String(36), primary_key=True),
        sa.Column("subscription", sa.String(63), nullable=False),
        sa.Column("record", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("response_status", sa.Integer, nullable=False),
        sa.Column("error", sa.String(500), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_attempt_time", sa.DateTime(timezone=True)),
        sa.Column("deliver_time", sa.DateTime(timezone=True)),
        sa.Column("headers", sa.LargeBinary, nullable=False),
        sa.Column("message", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("tenant", "project", "subscription", "record", name="delivery_once"),
    )
    op.create_index("delivery_due", "delivery", ["state", "next_attempt_time"])


def downgrade() -> None:
    for name in ("delivery", "subscription", "follower"):
        op.drop_table(name)
