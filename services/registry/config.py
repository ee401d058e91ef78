"""What the registry service can be told: AIMASS_REGISTRY_<FIELD>."""

from pydantic_settings import SettingsConfigDict

from services.kit.config import Settings


class Config(Settings):
    """Defaults are the laptop's."""

    model_config = SettingsConfigDict(env_prefix="AIMASS_REGISTRY_")

    # host:port where other processes reach it; empty: nowhere.
    listen: str = ""
    # Empty: SQLite in the home folder.
    database_url: str = ""
