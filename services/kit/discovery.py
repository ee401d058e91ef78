"""Where services are: in this process, or at addresses that the installation names."""

from typing import Any

from services.kit.channels import RemoteChannel
from services.kit.config import ConfigError
from services.kit.local import LocalChannel


def addresses(url: str) -> dict[str, str]:
    """`static:registry=127.0.0.1:9101,logs=...` by service. Raises ConfigError."""
    if not url:
        return {}
    kind, _, rest = url.partition(":")
    pairs = [part.partition("=") for part in rest.split(",") if part]
    if kind != "static" or not all(name and address for name, _, address in pairs):
        raise ConfigError("AIMASS_DISCOVERY_URL: must be static:service=host:port,...")
    return {name: address for name, _, address in pairs}


class Directory:
    """Channels to services by name. A service of this process is reached without a socket."""

    def __init__(self, hosted: tuple[str, ...], url: str) -> None:
        self.local = {name: LocalChannel() for name in hosted}
        self._addresses = addresses(url)
        self._remote: dict[str, RemoteChannel] = {}

    def knows(self, service: str) -> bool:
        """Whether the service is in this process, or somebody said where it is."""
        return service in self.local or service in self._addresses

    def channel(self, service: str) -> Any:
        """A channel to a service. Raises ConfigError when nobody said where it is."""
        if service in self.local:
            return self.local[service]
        if service not in self._remote:
            if service not in self._addresses:
                raise ConfigError(f"AIMASS_DISCOVERY_URL: says nothing of {service}")
            self._remote[service] = RemoteChannel(self._addresses[service], service)
        return self._remote[service]

    async def close(self) -> None:
        for channel in self._remote.values():
            await channel.close()
