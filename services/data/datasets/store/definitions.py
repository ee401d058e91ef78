"""The tables of data sets."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, String, Text

from services.data.database import schema
from services.kit.db import UtcDateTime, scoped

data_set = scoped(
    "data_set",
    schema.metadata,
    Column("data_set", String(63), primary_key=True),
    Column("description", String(1000), nullable=False),
    Column("latest_version", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    Column("delete_time", UtcDateTime),
    Column("owner", String(200), nullable=False, server_default=""),
    Column("refused_changes", JSON, nullable=False, server_default="[]"),
    Column("masked_columns", JSON, nullable=False, server_default="[]"),
    Column("layout", JSON(none_as_null=True)),
    Column("landed_from", String(63), nullable=False, server_default=""),
    Column("branch_of", String(63), nullable=False, server_default=""),
    Column("branch_version", Integer, nullable=False, server_default="0"),
    # What searches look into; NULL when something of it has changed since.
    Column("searched", Text),
    Index("data_set_branch_of", "tenant", "project", "branch_of"),
)
version = scoped(
    "data_set_version",
    schema.metadata,
    Column("data_set", String(63), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("run", String(64), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("rows_added", BigInteger, nullable=False),
    Column("digest", String(71), nullable=False),
    Column("delta_version", BigInteger, nullable=False),
    Column("first_version", Integer, nullable=False),
    Column("columns", JSON, nullable=False),
    Column("quality", JSON, nullable=False),
    # Of the columns' values, by column: apart from the report, because only the next version reads them.
    Column("sketches", JSON, nullable=False),
    Column("parents", JSON, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("layout", JSON(none_as_null=True)),
    Index("data_set_version_run", "tenant", "project", "data_set", "run", unique=True),
)
file = scoped(
    "data_set_file",
    schema.metadata,
    Column("data_set", String(63), primary_key=True),
    # The version that added it: a version reads what was added from its `first_version` on.
    Column("version", Integer, primary_key=True),
    Column("quarantine", Boolean, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("path", String(300), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("digest", String(71), nullable=False),
    Column("partition", Integer),
    # The data set in whose table it was written, unless that is this one.
    Column("home", String(63), nullable=False, server_default=""),
)
tag = scoped(
    "data_set_tag",
    schema.metadata,
    Column("data_set", String(63), primary_key=True),
    Column("tag", String(63), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
)
edge = scoped(
    "lineage_edge",
    schema.metadata,
    Column("from_kind", String(20), primary_key=True),
    Column("from_name", String(63), primary_key=True),
    Column("from_version", Integer, primary_key=True),
    Column("to_kind", String(20), primary_key=True),
    Column("to_name", String(63), primary_key=True),
    Column("to_version", Integer, primary_key=True),
    Index("lineage_edge_to", "tenant", "project", "to_kind", "to_name", "to_version"),
)
