"""Settings of the logs service: AIMASS_LOGS_<FIELD>."""

from typing import Annotated

from pydantic import Field, SecretStr

from services.kit.config import COMMAS, Address, DatabaseUrl, Settings

Pause = Annotated[float, Field(ge=0, le=10**7)]


class Config(Settings):
    """Defaults are the laptop's."""

    prefix = "AIMASS_LOGS_"

    # host:port where other processes reach this service. Empty: nowhere.
    listen: Address = ""
    # The database. Empty: SQLite in the home folder; postgresql+psycopg://user:password@host/database.
    database_url: DatabaseUrl = SecretStr("")
    # A segment of records is closed when it has this size or age, and a new one is started.
    segment_bytes: int = Field(default=32 * 2**20, ge=4096)
    segment_seconds: float = Field(default=3600.0, gt=0)
    # Seconds between the attempts to deliver a webhook; after the last it is given up.
    webhook_schedule: Annotated[tuple[Pause, ...], COMMAS] = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    # Seconds that a receiver may take to answer.
    webhook_seconds: float = Field(default=15.0, gt=0, le=60)
