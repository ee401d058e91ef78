"""Where clusterings that are under way are kept."""

from sqlalchemy import JSON, Column, String

from services.data.database import schema
from services.data.metering import service as metering
from services.data.metering.domain import CpuBudget
from services.data.series_clusters.domain import Clustering
from services.kit.db import Database, scoped
from services.kit.open_work import Names, OpenWork

clustering = scoped(
    "series_clustering",
    schema.metadata,
    Column("operation", String(64), primary_key=True),
    Column("definition", JSON, nullable=False),
)
_NAMES = Names("SeriesSets/ClusterSeries", "data-sets", "clustering")


class ClusteringStore(OpenWork[Clustering, CpuBudget]):
    """The table."""

    def __init__(self, db: Database) -> None:
        super().__init__(schema, db, clustering, Clustering, _NAMES, metering.counting("series"))
