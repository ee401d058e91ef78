"""Where searches under way are kept. What one found is what its operation ends with."""

from sqlalchemy import JSON, Column, String

from services.data.database import schema
from services.data.feature_search.domain import Search
from services.data.metering import service as metering
from services.data.metering.domain import CpuBudget
from services.kit.db import Database, scoped
from services.kit.open_work import Names, OpenWork

feature_search = scoped(
    "feature_search",
    schema.metadata,
    Column("operation", String(64), primary_key=True),
    Column("definition", JSON, nullable=False),
)
_NAMES = Names("FeatureSearches/SearchFeatures", "data-sets", "search")


class SearchStore(OpenWork[Search, CpuBudget]):
    """The table."""

    def __init__(self, db: Database) -> None:
        super().__init__(schema, db, feature_search, Search, _NAMES, metering.counting("discovery"))
