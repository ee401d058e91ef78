"""What the logs service can be told: AIMASS_LOGS_<FIELD>."""

from pydantic_settings import SettingsConfigDict

from services.kit.config import Settings


class Config(Settings):
    """Defaults are the laptop's."""

    model_config = SettingsConfigDict(env_prefix="AIMASS_LOGS_")

    # host:port where other processes reach it; empty: nowhere.
    listen: str = ""
    # Empty: SQLite in the home folder.
    database_url: str = ""
