"""Which adapter of a port an installation uses: its settings say so by URLs. A far one is imported when chosen."""

from services.kit.auth import Identity
from services.kit.bus import Bus, NearBus
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
