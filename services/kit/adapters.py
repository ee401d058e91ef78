"""Chooses the adapter of each port by the URL in its setting. Far adapters are imported only when chosen."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from services.kit.auth import Identity
from services.kit.blobs import Blobs, FolderBlobs
from services.kit.blobs_sealed import SealedBlobs
from services.kit.bus import Bus, NearBus
from services.kit.cache import Cache, NearCache
from services.kit.config import ConfigError, Installation
from services.kit.discovery import Listed, Source
from services.kit.forgetting import Destroyed, Forget, clearing, nobody, nothing
from services.kit.key_store import FolderKeys
from services.kit.mirrors import FolderMirrors, Mirrors
from services.kit.secrets import Vault
from services.kit.tenant_keys import TenantKeys
from services.kit.uploads import Uploads
from services.kit.uploads_sealed import SealedFolderUploads

if TYPE_CHECKING:
    from services.kit.bucket_s3 import Bucket
    from services.kit.telemetry.collector import Collector
    from services.kit.tls import Credentials


class Storage(NamedTuple):
    """The stores of bytes. `bucket` is set if they are on S3, and `passing` is then the local folder for uploads to it.

    `keys` are the tenant keys; None if bytes are stored in plain. `destroyed` returns the shredded tenants, and
    `forget` deletes what is stored of one.
    """

    blobs: Blobs
    uploads: Uploads
    mirrors: Mirrors
    bucket: "Bucket | None" = None
    passing: Path | None = None
    keys: TenantKeys | None = None
    destroyed: Destroyed = nobody
    forget: Forget = nothing


def credentials(settings: Installation) -> "Credentials | None":
    """The certificate of this process and the authority that it trusts; None without TLS. Raises ConfigError."""
    if settings.tls_dir is None:
        return None
    from services.kit.tls import Credentials

    return Credentials(settings.tls_dir)


def bus(settings: Installation, identity: Identity, service: str, credentials: "Credentials | None") -> Bus:
    """The bus, for a process that speaks as `service`. Raises ConfigError for an unknown URL."""
    url = settings.bus_url.get_secret_value()
    scheme = url.partition("://")[0]
    if not url:
        return NearBus(settings.home.resolve() / "bus.db")
    if scheme == "grpc":
        from services.kit.bus_remote import RemoteBus

        return RemoteBus(url, identity, service, credentials)
    if scheme in ("kafka", "kafka+ssl"):
        from services.kit.bus_kafka import KafkaBus

        return KafkaBus(url, settings.tls_dir)
    raise ConfigError("AIMASS_BUS_URL: must be grpc://host:port or kafka://host:port,...")


def collector(env: Mapping[str, str], process: str, instance: str) -> "Collector | None":
    """The collector that the variables OTEL_* name; None if they name none. Raises ConfigError."""
    if not any(value and variable.startswith("OTEL_") for variable, value in env.items()):
        return None
    from services.kit.telemetry.collectors import collector

    return collector(env, process, instance)


def cache(settings: Installation) -> Cache:
    """The cache of counters, leases and small values. Raises ConfigError for an unknown URL."""
    url = settings.cache_url.get_secret_value()
    return redis(url, settings) if url else NearCache()


def redis(url: str, settings: Installation) -> Cache:
    """A cache at redis://host:port/db or rediss://. Raises ConfigError."""
    if url.partition("://")[0] not in ("redis", "rediss"):
        raise ConfigError("AIMASS_CACHE_URL: must be redis://host:port/db or rediss://host:port/db")
    from services.kit.cache_redis import RedisCache

    return RedisCache(url, settings.tls_dir, settings.cache_any_version)


def vault(settings: Installation) -> Vault:
    """The vault with the secrets keys. Raises ConfigError for an invalid key."""
    given, old = settings.secrets_key.get_secret_value(), settings.secrets_old_keys.get_secret_value()
    return Vault(settings.home.resolve() / "keys", given, old)


def storage(settings: Installation, sealing: Vault | None = None) -> Storage:
    """The stores of bytes, encrypted under tenant keys, which `sealing` or the vault of the settings wraps.

    In a bucket bytes are stored in plain if the settings have no secrets key: other processes could not decrypt what is
    encrypted with a key in a home folder. Raises ConfigError for an unknown URL.
    """
    home, url, sealing = settings.home.resolve(), settings.blobs_url.get_secret_value(), sealing or vault(settings)
    if not url:
        folder = FolderBlobs(home / "blobs")
        wrapped, forget = FolderKeys(home / "keys" / "tenants"), clearing(home / "blobs", home / "tables")
        keys = TenantKeys(wrapped, sealing)
        sealed = SealedBlobs(folder, keys)
        uploads = SealedFolderUploads(folder, sealed, keys)
        return Storage(sealed, uploads, FolderMirrors(), keys=keys, destroyed=wrapped.destroyed, forget=forget)
    from services.kit.blobs_s3 import S3Blobs
    from services.kit.bucket_s3 import Bucket
    from services.kit.copies import Copies
    from services.kit.mirrors_s3 import S3Mirrors
    from services.kit.uploads_s3 import S3Uploads

    access, secret = settings.blobs_access_key.get_secret_value(), settings.blobs_secret_key.get_secret_value()
    bucket = Bucket(url, access, secret, settings.tls_dir / "ca.pem" if settings.tls_dir else None)
    copies = Copies(home / "cache" / "blobs", settings.blobs_cache_mib * 2**20)
    passing = home / "cache" / "scratch"
    blobs = S3Blobs(bucket, copies, passing / "blobs")
    from services.kit.sealed_objects import SealedObjects
    from services.kit.sealed_s3 import BucketKeys, SealedS3Uploads, emptying

    shared, forget = BucketKeys(bucket), emptying(bucket, copies, clearing(passing / "blobs", passing / "tables"))
    if not settings.secrets_key.get_secret_value():
        mirrors = S3Mirrors(bucket, SealedObjects(bucket, None), copies)
        return Storage(blobs, S3Uploads(bucket, blobs), mirrors, bucket, passing, None, shared.destroyed, forget)
    keys = TenantKeys(shared, sealing)
    mirrors = S3Mirrors(bucket, SealedObjects(bucket, keys), copies)
    closed = SealedBlobs(blobs, keys, "blob")  # as copies are called
    under_keys = SealedS3Uploads(bucket, blobs, closed, keys)
    return Storage(closed, under_keys, mirrors, bucket, passing, keys, shared.destroyed, forget)


def source(settings: Installation, identity: Identity) -> Source:
    """The source of discovery. Raises ConfigError for an unknown URL."""
    url = settings.discovery_url.get_secret_value()
    kind, _, rest = url.partition(":")
    if kind in ("", "static"):
        return Listed(rest)
    if kind == "dns":
        from services.kit.discovery_dns import Names

        return Names(rest)
    if kind in ("redis", "rediss"):
        from services.kit.discovery_redis import Leases

        return Leases(redis(url, settings), identity, weight=settings.weight)
    raise ConfigError("AIMASS_DISCOVERY_URL: must be static:service=host:port,..., dns:... or redis://host:port/db")
