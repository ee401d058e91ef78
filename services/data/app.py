"""How the data service is put together."""

from services.data.config import Config
from services.data.database import open_database, schema
from services.data.datasets.api import DataSetsApi
from services.data.datasets.queries import Queries
from services.data.datasets.service import DataSets
from services.data.datasets.store import Store as DataSetStore
from services.data.datasets.tables import FolderTables
from services.data.pipelines.api import PipelinesApi
from services.data.pipelines.runner import PipelineRunner
from services.data.pipelines.service import Pipelines
from services.data.pipelines.store import Store as PipelineStore
from services.data.reading.places import Places
from services.data.sources.api import SourcesApi
from services.data.sources.service import Sources
from services.data.sources.store import SourceStore
from services.data.sources.uploads import SourceUploads
from services.kit.app import App, Runtime
from services.kit.process import Limits


def build(config: Config, runtime: Runtime) -> App:
    """Composes the slices; each takes the services of those before it."""
    database = open_database(config.database_url, runtime.home)
    source_store = SourceStore(database)
    sources = Sources(source_store, Places(config.file_roots, runtime.home, runtime.blobs), runtime.now)
    uploads = SourceUploads(source_store, runtime.uploads, config.upload_mib * 2**20, runtime.now)
    tables = FolderTables(runtime.home / "tables")
    data_sets = DataSets(DataSetStore(database), tables, runtime.now)
    queries = Queries(data_sets, Limits(config.query_seconds, config.query_memory_mib), config.queries_at_once)
    pipeline_store = PipelineStore(database)
    runner = PipelineRunner(
        pipeline_store,
        data_sets,
        schema.operations,
        runtime.now,
        runtime.spawn,
        Limits(config.pipeline_seconds, config.pipeline_memory_mib),
        config.pipelines_at_once,
    )
    pipelines = Pipelines(pipeline_store, data_sets, runner, runtime.now)
    return App(
        rpc={
            "aimass.v1.Sources": SourcesApi(sources, uploads),
            "aimass.v1.DataSets": DataSetsApi(data_sets, queries),
            "aimass.v1.Pipelines": PipelinesApi(pipelines),
        },
        database=database,
        schema=schema,
        start=[runner.resume],
        close=[tables.close],
    )
