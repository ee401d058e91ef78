"""Settings of the registry service: AIMASS_REGISTRY_<FIELD>."""

from pydantic import Field, SecretStr

from services.kit.config import Address, DatabaseUrl, Settings


class Config(Settings):
    """Defaults are the laptop's."""

    prefix = "AIMASS_REGISTRY_"

    # host:port where other processes reach this service. Empty: nowhere.
    listen: Address = ""
    # The database. Empty: SQLite in the home folder; postgresql+psycopg://user:password@host/database.
    database_url: DatabaseUrl = SecretStr("")
    # Seconds after which a change of a release fails if not every gateway has switched.
    change_seconds: float = Field(120.0, gt=0)
    # How many gateways must have switched, if discovery has no leases to tell which are running.
    gateways: int = Field(1, ge=1)
    # Time and memory of the inspection of an uploaded graph.
    inspect_seconds: float = Field(45.0, gt=0)
    inspect_memory_mib: int = Field(2048, gt=0)
    # The largest model.onnx in MiB.
    model_mib: int = Field(512, gt=0)
