"""What the data service can be told: AIMASS_DATA_<FIELD>."""

from pydantic import Field, SecretStr

from services.kit.config import Address, DatabaseUrl, Settings


class Config(Settings):
    """Defaults are the laptop's."""

    prefix = "AIMASS_DATA_"

    # host:port where other processes reach it; empty: nowhere.
    listen: Address = ""
    # Empty: SQLite in the home folder; postgresql+psycopg://user:password@host/database.
    database_url: DatabaseUrl = SecretStr("")
    # Folders that file and SQLite sources may lie in, separated as in PATH; `{tenant}` becomes the tenant's name, and a
    # folder without it is open to every tenant. Empty: `<home>/import/{tenant}`. Relative paths begin at the first.
    file_roots: str = ""
    # MiB that one upload may have.
    upload_mib: int = Field(4096, gt=0)
    # What one extraction may take, and how many run at once.
    extraction_seconds: float = Field(3600.0, gt=0)
    extraction_memory_mib: int = Field(2048, gt=0)
    extractions_at_once: int = Field(2, ge=1)
    # What one query may take, and how many run at once.
    query_seconds: float = Field(30.0, gt=0)
    query_memory_mib: int = Field(2048, gt=0)
    queries_at_once: int = Field(2, ge=1)
    # What one step of a pipeline may take, and how many pipelines run at once.
    pipeline_seconds: float = Field(3600.0, gt=0)
    pipeline_memory_mib: int = Field(4096, gt=0)
    pipelines_at_once: int = Field(2, ge=1)
    # What one fitting of a feature set may take; one runs at a time.
    fitting_seconds: float = Field(3600.0, gt=0)
    fitting_memory_mib: int = Field(4096, gt=0)
