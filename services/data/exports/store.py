"""Where writes under way are kept."""

from sqlalchemy import JSON, Column, String

from services.data.database import schema
from services.data.exports.domain import Write
from services.data.metering import service as metering
from services.data.metering.domain import CpuBudget
from services.kit.db import Database, scoped
from services.kit.open_work import Names, OpenWork

table_write = scoped(
    "table_write",
    schema.metadata,
    Column("operation", String(64), primary_key=True),
    Column("definition", JSON, nullable=False),
)
_NAMES = Names("Exports/WriteTable", "sources", "write")


class WriteStore(OpenWork[Write, CpuBudget]):
    """The table."""

    def __init__(self, db: Database) -> None:
        super().__init__(schema, db, table_write, Write, _NAMES, metering.counting("pipeline"))
