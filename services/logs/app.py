"""How the log centre is put together."""

from services.kit.app import App, Runtime
from services.logs.config import Config
from services.logs.database import open_database, schema
from services.logs.ingest.api import Intake
from services.logs.ingest.segments import Segments
from services.logs.ingest.service import Ingest
from services.logs.search.api import LogsApi
from services.logs.search.index import Index
from services.logs.search.service import Search

__all__ = ["Config", "build"]


def build(config: Config, runtime: Runtime) -> App:
    """The log centre of a process."""
    store = runtime.home / "logs-store"
    ingest = Ingest(Segments(store / "records", config.segment_bytes, config.segment_seconds))
    search = Search(ingest, Index(store / "index"))

    async def close_ingest() -> None:
        ingest.close()

    return App(
        rpc={"aimass.v1.Logs": LogsApi(search)},
        database=open_database(config.database_url, runtime.home),
        schema=schema,
        start=[ingest.open],
        tasks=[Intake(runtime.bus, ingest).run, search.follow],
        close=[search.close, close_ingest],
    )
