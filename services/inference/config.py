"""What the inference service can be told: AIMASS_INFERENCE_<FIELD>."""

from pydantic import Field, SecretStr

from services.kit.config import Address, DatabaseUrl, Settings


class Config(Settings):
    """Defaults are the laptop's."""

    prefix = "AIMASS_INFERENCE_"

    # host:port where other processes reach it; empty: nowhere.
    listen: Address = ""
    # The port beside it where gateways call versions by frames, for a fraction of what they cost over gRPC. 0: any that
    # is free; -1: none. Without AIMASS_TLS_DIR only; who cannot reach it calls over gRPC.
    frames_port: int = Field(0, ge=-1, le=65535)
    # Empty: SQLite in the home folder; postgresql+psycopg://user:password@host/database.
    database_url: DatabaseUrl = SecretStr("")
    # What runs models. Empty: ONNX Runtime in this process; triton://host:port: a Triton server, over gRPC;
    # tritons://host:port: the same with the certificates of AIMASS_TLS_DIR.
    engine: str = ""
    # host:port of the HTTP door of the same triton:// server: calls of versions go there, in the clear, for less than
    # half of what they cost over gRPC. Empty: they go over gRPC.
    engine_http: Address = ""
    # Calls that engines of this process answer at a time; 0: one per processor.
    threads: int = Field(0, ge=0)
    # Calls that may wait for a thread, or be under way to Triton; more are refused.
    queue: int = Field(256, ge=1)
    # Whether the version that served before stays loaded, so that a rollback is at once.
    keep_previous: bool = True
    # Seconds that a version stays loaded after no release names it any more.
    unload_seconds: float = Field(5.0, ge=0)
    # The longest time between two looks at the registry's releases.
    resync_seconds: float = Field(60.0, gt=0)
