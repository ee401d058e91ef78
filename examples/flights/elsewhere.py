"""An installation that runs already, in containers or on other machines: it is told where it is, and stays."""

import contextlib
import http.client
import json
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from examples.flights.installation import Installation, StartFailed
from examples.flights.webhook import Sink

_READY = 60.0  # seconds that its gateway may take


@dataclass
class Elsewhere(Installation):
    """`folder` is where this machine puts files that the data service reads; `seen_as` is how that names the folder."""

    url: str = ""
    grpc: str = ""
    key_at: Path = field(default_factory=Path)
    seen_as: str = ""

    @property
    def key_file(self) -> Path:
        return self.key_at

    @property
    def seen(self) -> str:
        return f"{self.seen_as}/company"

    @property
    def access_log(self) -> Path:
        """A copy that an operator put there: the gateway's own log is not for its callers."""
        return self.folder / "access.log"

    @property
    def seen_log(self) -> str:
        return f"{self.seen_as}/access.log"

    def start(self) -> float:
        """Waits until its gateway is ready; starts nothing. Raises StartFailed."""
        began = time.monotonic()
        self.doors = {"http": self.url, "grpc": self.grpc}
        while (status := self._status()) != 200:
            if time.monotonic() - began > _READY:
                raise StartFailed(f"{self.url} is not ready: {status or 'nobody answers'}")
            time.sleep(0.5)
        return time.monotonic() - began

    def _status(self) -> int:
        try:
            with contextlib.closing(self.connection(5)) as connection:
                connection.request("GET", "/health/ready")
                return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0

    def connection(self, seconds: float) -> http.client.HTTPConnection:
        """A plain connection to its HTTP door."""
        place = urlsplit(self.url)
        if place.scheme == "http":
            return http.client.HTTPConnection(place.netloc, timeout=seconds)
        return http.client.HTTPSConnection(place.netloc, timeout=seconds, context=self.trust())

    def trust(self) -> ssl.SSLContext:
        """Believes the authority that it was told, or the system's."""
        return ssl.create_default_context(cafile=self.ca or None)

    def stop(self) -> None:
        """It is somebody else's."""


def visited(description: Path) -> Elsewhere:
    """The installation that a JSON file describes: url, grpc, key_file, ca, folder, seen_as, callback.

    `callback` is how the installation calls this machine. Raises StartFailed for a file that says too little.
    """
    try:
        settings = json.loads(description.read_text())
        sink = Sink("0.0.0.0", settings["callback"])
        folder, key = Path(settings["folder"]), Path(settings["key_file"])
        url, grpc, ca, seen = (str(settings[name]) for name in ("url", "grpc", "ca", "seen_as"))
    except (OSError, ValueError, KeyError) as error:
        raise StartFailed(f"{description} describes no installation: {error}") from None
    folder.mkdir(parents=True, exist_ok=True)
    return Elsewhere(folder, sink, ca=ca, url=url, grpc=grpc, key_at=key, seen_as=seen)


@contextlib.contextmanager
def visiting(description: Path) -> Iterator[Elsewhere]:
    """An installation elsewhere for a block, with a receiver of its webhooks here."""
    found = visited(description)
    with found.sink:
        yield found
