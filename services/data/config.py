"""What the data service can be told: AIMASS_DATA_<FIELD>."""

from pydantic import SecretStr

from services.kit.config import Settings


class Config(Settings):
    """Defaults are the laptop's."""

    prefix = "AIMASS_DATA_"

    # host:port where other processes reach it; empty: nowhere.
    listen: str = ""
    # Empty: SQLite in the home folder; postgresql+psycopg://user:password@host/database.
    database_url: SecretStr = SecretStr("")
    # Folders that file and SQLite sources may lie in, separated as in PATH; `{tenant}` becomes the tenant's name, and a
    # folder without it is open to every tenant. Empty: `<home>/import/{tenant}`. Relative paths begin at the first.
    file_roots: str = ""
    # MiB that one upload may have.
    upload_mib: int = 4096
    # What one extraction may take, and how many run at once.
    extraction_seconds: float = 3600.0
    extraction_memory_mib: int = 2048
    extractions_at_once: int = 2
    # What one query may take, and how many run at once.
    query_seconds: float = 30.0
    query_memory_mib: int = 2048
    queries_at_once: int = 2
    # What one step of a pipeline may take, and how many pipelines run at once.
    pipeline_seconds: float = 3600.0
    pipeline_memory_mib: int = 4096
    pipelines_at_once: int = 2
    # What one fitting of a feature set may take; one runs at a time.
    fitting_seconds: float = 3600.0
    fitting_memory_mib: int = 4096
