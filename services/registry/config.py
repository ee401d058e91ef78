"""What the registry service can be told: AIMASS_REGISTRY_<FIELD>."""

from pydantic import Field, SecretStr

from services.kit.config import Address, DatabaseUrl, Settings


class Config(Settings):
    """Defaults are the laptop's."""

    prefix = "AIMASS_REGISTRY_"

    # host:port where other processes reach it; empty: nowhere.
    listen: Address = ""
    # Empty: SQLite in the home folder; postgresql+psycopg://user:password@host/database.
    database_url: DatabaseUrl = SecretStr("")
    # Seconds that a change of a release may take until every gateway has switched; then it fails.
    change_seconds: float = Field(120.0, gt=0)
    # Gateway processes that must have switched before a change is done, unless leases say which live.
    gateways: int = Field(1, ge=1)
    # Seconds and memory that looking at an uploaded graph may take.
    inspect_seconds: float = Field(45.0, gt=0)
    inspect_memory_mib: int = Field(2048, gt=0)
    # The largest model.onnx.
    model_mib: int = Field(512, gt=0)
