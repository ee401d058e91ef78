"""What the gateway can be told: AIMASS_GATEWAY_<FIELD>."""

from pathlib import Path

from pydantic import Field, SecretStr

from services.kit.config import Address, DatabaseUrl, Settings


class Config(Settings):
    """Defaults are the laptop's."""

    prefix = "AIMASS_GATEWAY_"

    # host:port where other processes reach it; empty: nowhere.
    listen: Address = ""
    # Empty: SQLite in the home folder; postgresql+psycopg://user:password@host/database.
    database_url: DatabaseUrl = SecretStr("")
    # Where the public doors are. Port 0: a free one; `doors.json` in the home folder says which.
    host: str = "127.0.0.1"
    http_port: int = Field(default=8080, ge=0, le=65535)
    grpc_port: int = Field(default=9090, ge=0, le=65535)
    # PEM files of both doors: certificate with its chain, and key; read again when they change. Empty: plain.
    tls_cert: Path | None = None
    tls_key: Path | None = None
    # A PEM file with the authorities of client certificates, which may be shown then; read again when it changes.
    client_ca: Path | None = None
    # A second gRPC door, for clients with certificates only: gRPC asks for one from everybody or from nobody. 0: a free
    # port; empty: none.
    certified_grpc_port: int | None = Field(default=None, ge=0, le=65535)
    # Whether several gateways may listen on the same ports, as when one takes over from another. Where another one
    # accepts connections, a gateway opens its doors when it is ready.
    reuse_port: bool = False
    # 32 bytes as base64 that keys are hashed with; several gateways share them. Empty: a file in the home folder.
    pepper: SecretStr = SecretStr("")
    # The first key of a new installation. Empty: one is made, and written to `admin-key` in the home folder.
    admin_key: SecretStr = SecretStr("")
    # A TOML file with the issuers (OpenID Connect) whose tokens are taken; read again when it changes. Empty: none.
    issuers_file: Path | None = None
    # Names that a `Host` header may give beside loopback and `host`, comma-separated; `*`: any.
    allowed_hosts: str = ""
    # Web origins that may call beside our own, comma-separated: https://console.example.
    allowed_origins: str = ""
    # The token bucket of a key that has no limit of its own: tokens a second, and how many it holds.
    rate: float = Field(default=200.0, gt=0)
    burst: float = Field(default=400.0, ge=1)
    # Connections that are served at a time.
    max_connections: int = Field(default=1000, ge=1)
    # Seconds that requests are still accepted after SIGTERM, so that balancers can notice.
    drain_accept_seconds: float = Field(default=2.0, ge=0)
    # Seconds that a connection which was accepted but has said nothing is waited for after that.
    drain_silent_seconds: float = Field(default=5.0, ge=0)
