"""Which adapter of a port an installation uses: its settings say so by URLs. A far one is imported when chosen."""

from services.kit.auth import Identity
from services.kit.bus import Bus, NearBus
from services.kit.cache import Cache, NearCache
from services.kit.config import ConfigError, Installation


def bus(settings: Installation, identity: Identity) -> Bus:
    """Where events go. Raises ConfigError for a URL that nothing serves."""
    url = settings.bus_url.get_secret_value()
    scheme = url.partition("://")[0]
    if not url:
        return NearBus(settings.home.resolve() / "bus.db")
    if scheme == "grpc":
        from services.kit.bus_remote import RemoteBus

        return RemoteBus(url, identity)
    raise ConfigError("AIMASS_BUS_URL: must be grpc://host:port or kafka://host:port,...")


def cache(settings: Installation) -> Cache:
    """Where counters, leases and small values are. Raises ConfigError for a URL that nothing serves."""
    url = settings.cache_url.get_secret_value()
    return redis(url, settings) if url else NearCache()


def redis(url: str, settings: Installation) -> Cache:
    """A cache at redis://host:port/db or rediss://. Raises ConfigError."""
    if url.partition("://")[0] not in ("redis", "rediss"):
        raise ConfigError("AIMASS_CACHE_URL: must be redis://host:port/db or rediss://host:port/db")
    from services.kit.cache_redis import RedisCache

    return RedisCache(url, settings.tls_dir, settings.cache_any_version)
