"""The tables of feature views."""

from sqlalchemy import JSON, BigInteger, Column, Integer, LargeBinary, String

from services.data.database import schema
from services.kit.db import UtcDateTime, scoped

feature_view = scoped(
    "feature_view",
    schema.metadata,
    Column("feature_view", String(63), primary_key=True),
    Column("description", String(1000), nullable=False),
    Column("latest_version", Integer, nullable=False),
    Column("serving_version", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    Column("delete_time", UtcDateTime),
)
version = scoped(
    "feature_view_version",
    schema.metadata,
    Column("feature_view", String(63), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("definition", JSON, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    # The newest version of the data set of which all is materialised.
    Column("data_set_version", Integer, nullable=False),
    Column("materialise_time", UtcDateTime),
    Column("newest_event_time", UtcDateTime),
    # Of the last transaction that changed its rows.
    Column("stamp", BigInteger, nullable=False),
)
# A row is a materialisation that has not ended.
run = scoped(
    "feature_view_run",
    schema.metadata,
    Column("operation", String(64), primary_key=True),
    Column("definition", JSON, nullable=False),
    Column("progress", JSON, nullable=False),
)
# The newest row of each entity.
row = scoped(
    "feature_row",
    schema.metadata,
    Column("feature_view", String(63), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("event_time", BigInteger, nullable=False),
    Column("data_set_version", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("value", LargeBinary, nullable=False),
)
row.dialect_options["sqlite"]["with_rowid"] = False  # a read is one search in one tree
