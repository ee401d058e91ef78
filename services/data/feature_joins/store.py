"""Where joins of features that are under way are kept."""

from sqlalchemy import JSON, Column, String

from services.data.database import schema
from services.data.feature_joins.domain import Join
from services.data.metering import service as metering
from services.data.metering.domain import CpuBudget
from services.kit.db import Database, scoped
from services.kit.open_work import Names, OpenWork

join = scoped(
    "feature_join",
    schema.metadata,
    Column("operation", String(64), primary_key=True),
    Column("definition", JSON, nullable=False),
)
_NAMES = Names("FeatureViews/JoinFeatures", "data-sets", "join")


class JoinStore(OpenWork[Join, CpuBudget]):
    """The table."""

    def __init__(self, db: Database) -> None:
        super().__init__(schema, db, join, Join, _NAMES, metering.counting("pipeline"))
