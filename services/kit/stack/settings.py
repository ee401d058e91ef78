"""What a stack consists of, read from the settings of its services."""

import hashlib
import hmac
import importlib
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from services import SERVICES
from services.kit import adapters
from services.kit.bucket_s3 import Bucket
from services.kit.config import ConfigError, Installation, load
from services.kit.secrets import key_of, keys_of
from services.kit.space import Space
from services.kit.tenant_keys import TenantKeys
from services.kit.tls import Credentials

# Settings of secrets without which a restored stack is useless.
_SECRETS = ("AIMASS_GATEWAY_PEPPER", "AIMASS_SECRETS_KEY")
OLD_KEYS = "AIMASS_SECRETS_OLD_KEYS"


@dataclass(frozen=True)
class Stack:
    """The databases and their migrations by service, the bucket, the log centre's home folder, the bus."""

    databases: Mapping[str, str]
    revisions: Mapping[str, Path]
    bucket: Bucket
    home: Path
    bus_url: str
    tls_dir: Path | None
    credentials: Credentials | None  # client certificate for the databases
    secrets: Mapping[str, str]  # fingerprints of the secrets, by setting
    old: Set[str]  # fingerprints of old keys, which some things may still be sealed with
    space: Space  # of the log centre's disk
    keys: TenantKeys | None = None  # open its blobs

    @property
    def records(self) -> Path:
        return self.home / "logs-store"


def stack_of(env: Mapping[str, str]) -> Stack:
    """Opens no connection. Raises ConfigError for settings that are not those of a stack."""
    settings = load(Installation, env)
    storage, bus_url = adapters.storage(settings), settings.bus_url.get_secret_value()
    if (bucket := storage.bucket) is None:
        raise ConfigError("AIMASS_BLOBS_URL: must be s3://...; `aimass backup` copies a home folder")
    if not bus_url.startswith(("kafka://", "kafka+ssl://")):
        raise ConfigError("AIMASS_BUS_URL: must be kafka://...; `aimass backup` copies a home folder")
    databases = {service: _database(service, env) for service in SERVICES}
    root = Path(__file__).parents[2]
    revisions = {service: root / service / "migrations" for service in SERVICES}
    home = settings.home.resolve()
    old = keys_of(settings.secrets_old_keys.get_secret_value(), OLD_KEYS)
    return Stack(
        databases,
        revisions,
        bucket,
        home,
        bus_url,
        settings.tls_dir,
        adapters.credentials(settings),
        secrets=_marks(settings, env),
        old=frozenset(_mark(key) for key in old),
        space=Space(home, settings.disk_percent),
        keys=storage.keys,
    )


def _database(service: str, env: Mapping[str, str]) -> str:
    found = load(importlib.import_module(f"services.{service}.config").Config, env).database_url.get_secret_value()
    if not found.startswith("postgresql"):
        raise ConfigError(f"AIMASS_{service.upper()}_DATABASE_URL: must be postgresql+psycopg://...")
    return str(found)


def _marks(settings: Installation, env: Mapping[str, str]) -> dict[str, str]:
    gateway = load(importlib.import_module("services.gateway.config").Config, env)
    given = dict(zip(_SECRETS, (gateway.pepper, settings.secrets_key), strict=True))
    if missing := [name for name, secret in given.items() if not secret.get_secret_value()]:
        raise ConfigError(f"{missing[0]}: must be set; what is kept cannot be used without it")
    return {name: _mark(key_of(secret.get_secret_value(), name)) for name, secret in given.items()}


def _mark(key: bytes) -> str:
    return hmac.new(key, b"aimass backup", hashlib.sha256).hexdigest()[:32]
