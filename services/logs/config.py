"""What the logs service can be told: AIMASS_LOGS_<FIELD>."""

from typing import Annotated

from pydantic import Field, SecretStr

from services.kit.config import COMMAS, Address, DatabaseUrl, Settings

Pause = Annotated[float, Field(ge=0, le=10**7)]


class Config(Settings):
    """Defaults are the laptop's."""

    prefix = "AIMASS_LOGS_"

    # host:port where other processes reach it; empty: nowhere.
    listen: Address = ""
    # Empty: SQLite in the home folder; postgresql+psycopg://user:password@host/database.
    database_url: DatabaseUrl = SecretStr("")
    # A file of records is sealed when it is this large, or this many seconds old.
    segment_bytes: int = Field(default=32 * 2**20, ge=4096)
    segment_seconds: float = Field(default=3600.0, gt=0)
    # Seconds between the tries of a webhook; it is given up after the last.
    webhook_schedule: Annotated[tuple[Pause, ...], COMMAS] = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    # Seconds that a receiver may take.
    webhook_seconds: float = Field(default=15.0, gt=0, le=60)
