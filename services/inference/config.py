"""Settings of the inference service: AIMASS_INFERENCE_<FIELD>."""

from pydantic import Field, SecretStr

from services.kit.config import Address, DatabaseUrl, Settings


class Config(Settings):
    """Defaults are the laptop's."""

    prefix = "AIMASS_INFERENCE_"

    # host:port where other processes reach this service. Empty: nowhere.
    listen: Address = ""
    # The port for calls as frames, which cost gateways a fraction of gRPC calls. 0: a free port; -1: none. Not used
    # with AIMASS_TLS_DIR; gateways that cannot reach it use gRPC.
    frames_port: int = Field(0, ge=-1, le=65535)
    # The database. Empty: SQLite in the home folder; postgresql+psycopg://user:password@host/database.
    database_url: DatabaseUrl = SecretStr("")
    # What runs models. Empty: ONNX Runtime in this process; triton://host:port: a Triton server over gRPC;
    # tritons://host:port: with TLS by AIMASS_TLS_DIR.
    engine: str = ""
    # host:port of the HTTP port of the same triton:// server: plain HTTP calls cost less than half of those over gRPC.
    # Empty: gRPC.
    engine_http: Address = ""
    # Calls that the engines of this process answer at a time. 0: one per processor.
    threads: int = Field(0, ge=0)
    # Calls that may wait for a thread, or be in flight to Triton; more are refused.
    queue: int = Field(256, ge=1)
    # Whether the previous version stays loaded, so that a rollback takes no time.
    keep_previous: bool = True
    # Seconds that a version stays loaded after the last release that names it.
    unload_seconds: float = Field(5.0, ge=0)
    # Seconds between two reads of all releases of the registry.
    resync_seconds: float = Field(60.0, gt=0)
