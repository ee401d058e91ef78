"""Settings of the gateway: AIMASS_GATEWAY_<FIELD>."""

from pathlib import Path

from pydantic import Field, SecretStr

from services.kit.config import Address, DatabaseUrl, Settings


class Config(Settings):
    """Defaults are the laptop's."""

    prefix = "AIMASS_GATEWAY_"

    # host:port where other processes reach this service. Empty: nowhere.
    listen: Address = ""
    # The database. Empty: SQLite in the home folder; postgresql+psycopg://user:password@host/database.
    database_url: DatabaseUrl = SecretStr("")
    # Where clients reach it. Port 0: a free port, which is written to `doors.json` in the home folder.
    host: str = "127.0.0.1"
    http_port: int = Field(default=8080, ge=0, le=65535)
    grpc_port: int = Field(default=9090, ge=0, le=65535)
    # PEM files for both ports: the certificate with its chain, and its key. Read again when they change. Empty: no TLS.
    tls_cert: Path | None = None
    tls_key: Path | None = None
    # A PEM file with the authorities of client certificates. Read again when it changes. Empty: none are accepted.
    client_ca: Path | None = None
    # A second gRPC port, only for clients with certificates: gRPC requires them of all clients or of none. 0: a free
    # port; empty: none.
    certified_grpc_port: int | None = Field(default=None, ge=0, le=65535)
    # Whether several gateways may listen on the same ports. While another one accepts connections, a gateway opens its
    # ports only when it is ready.
    reuse_port: bool = False
    # The pepper of hashed API keys, 32 bytes as base64; all gateways share it. Empty: a file in the home folder.
    pepper: SecretStr = SecretStr("")
    # The first key of a new installation. Empty: one is created, and written to `admin-key` in the home folder.
    admin_key: SecretStr = SecretStr("")
    # A TOML file with the OpenID Connect issuers whose tokens are accepted. Read again when it changes. Empty: none.
    issuers_file: Path | None = None
    # Names that are allowed in `Host` besides loopback and `host`, comma-separated; `*`: any.
    allowed_hosts: str = ""
    # Other web origins whose pages may call, comma-separated: https://console.example.
    allowed_origins: str = ""
    # The default token bucket of a key: tokens a second, and tokens in a full bucket.
    rate: float = Field(default=200.0, gt=0)
    burst: float = Field(default=400.0, ge=1)
    # Connections at a time.
    max_connections: int = Field(default=1000, ge=1)
    # Seconds in which requests are still accepted after SIGTERM, so that load balancers can notice.
    drain_accept_seconds: float = Field(default=2.0, ge=0)
    # Seconds to wait after that for connections that have not sent a request yet.
    drain_silent_seconds: float = Field(default=5.0, ge=0)
