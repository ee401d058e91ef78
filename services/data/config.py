"""Settings of the data service: AIMASS_DATA_<FIELD>."""

from pydantic import Field, SecretStr

from services.kit.config import Address, DatabaseUrl, RedisUrl, Settings


class Config(Settings):
    """Defaults are the laptop's."""

    prefix = "AIMASS_DATA_"

    # host:port where other processes reach this service. Empty: nowhere.
    listen: Address = ""
    # The database. Empty: SQLite in the home folder; postgresql+psycopg://user:password@host/database.
    database_url: DatabaseUrl = SecretStr("")
    # Folders of file and SQLite sources, separated as in PATH; `{tenant}` stands for the tenant's name, and a folder
    # without it is open to every tenant. Relative paths start at the first. Empty: `<home>/import/{tenant}`.
    file_roots: str = ""
    # The largest upload in MiB.
    upload_mib: int = Field(4096, gt=0)
    # Time and memory of one extraction, and how many run at once.
    extraction_seconds: float = Field(3600.0, gt=0)
    extraction_memory_mib: int = Field(2048, gt=0)
    extractions_at_once: int = Field(2, ge=1)
    # MiB of all files that one extraction downloads.
    download_mib: int = Field(4096, gt=0)
    # Records of a landed source that one run makes rows of; the next goes on behind them. A run also ends, with what
    # it has read, when half of its time is over.
    landed_records_at_once: int = Field(5_000_000, ge=1)
    # Time and memory of one query, comparison, preview of a recipe, or look at rows for expectations; how many queries,
    # comparisons and previews run at once, and as many looks at new rows.
    query_seconds: float = Field(30.0, gt=0)
    query_memory_mib: int = Field(2048, gt=0)
    queries_at_once: int = Field(2, ge=1)
    # Time of one stream of rows to another system, and the most MiB that it has; how many there are at once. Its memory
    # is that of a query.
    stream_seconds: float = Field(600.0, gt=0)
    stream_mib: int = Field(16384, gt=0)
    streams_at_once: int = Field(2, ge=1)
    # MiB of tables that queries read again and again, which are kept in memory; at most four processes keep them, one
    # for each tenant, until nobody has asked for five minutes. 0: every query reads files.
    hot_tables_mib: int = Field(512, ge=0)
    # Time and memory of one search for rules, for joins or for a repair, and how many searches for rules and joins run
    # at once; of repairs, one does.
    discovery_seconds: float = Field(50.0, gt=0)
    discovery_memory_mib: int = Field(1024, gt=0)
    discoveries_at_once: int = Field(1, ge=1)
    # Time and memory of one step of a pipeline, or of dividing the rows of a data set into partitions, and how many
    # pipelines run at once, and as many divisions of new rows.
    pipeline_seconds: float = Field(3600.0, gt=0)
    pipeline_memory_mib: int = Field(4096, gt=0)
    pipelines_at_once: int = Field(2, ge=1)
    # Time and memory of one run of a recipe, and how many run at once.
    cleaning_seconds: float = Field(3600.0, gt=0)
    cleaning_memory_mib: int = Field(4096, gt=0)
    cleanings_at_once: int = Field(2, ge=1)
    # Time and memory of one fitting of a feature set; one runs at a time.
    fitting_seconds: float = Field(3600.0, gt=0)
    fitting_memory_mib: int = Field(4096, gt=0)
    # Time and memory of one materialisation of a feature view, or one join of features; one of each runs at a time.
    materialisation_seconds: float = Field(3600.0, gt=0)
    materialisation_memory_mib: int = Field(2048, gt=0)
    # Where features of feature views are read by key. Empty: in the database; redis://host:port/0 or rediss:// for TLS:
    # in Redis, which is filled from the database, up to so many MiB. What it lacks is read from the database.
    features_url: RedisUrl = SecretStr("")
    features_mib: int = Field(1024, gt=0)
    # Days after the last materialisation of a version of a feature view until its rows are dropped, if it is not the
    # one that is read by default, or the view is deleted. 0: never.
    feature_version_days: int = Field(30, ge=0, le=36_500)
    # Time and memory of one run of a series set; one runs at a time.
    series_seconds: float = Field(3600.0, gt=0)
    series_memory_mib: int = Field(4096, gt=0)
