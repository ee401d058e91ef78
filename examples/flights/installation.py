"""An installation of its own: a folder of its own, free ports, one process, gone at the end."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from examples.flights.webhook import Sink

_START = 60.0  # seconds that the services may take to be ready, on a machine that does much else
_STOP = 20.0


class Stopping:
    """Turns signals into KeyboardInterrupt, but not in the middle of what must be whole."""

    def __init__(self) -> None:
        self._held, self._wanted = 0, False

    def listen(self) -> None:
        """From now on Ctrl-C, a kill and a closed terminal are the same."""
        for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sign, self._take)

    def _take(self, *_: Any) -> None:
        self._wanted = True
        if not self._held:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A signal that comes within the block is raised at its end."""
        before, self._held = self._wanted, self._held + 1
        try:
            yield
        finally:
            self._held -= 1
        if self._wanted and not before:
            raise KeyboardInterrupt


STOPPING = Stopping()


class StartFailed(Exception):
    """The services did not start; the text has their last words."""


@dataclass
class Installation:
    """Services that run, and where."""

    folder: Path
    sink: Sink
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    doors: dict[str, str] = field(default_factory=dict)
    ca: str = ""  # a file with the authority of its certificate; empty: it has none

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def raw(self) -> Path:
        """Where the company's files lie."""
        return self.folder / "company"

    @property
    def seen(self) -> str:
        """What the data service calls that folder."""
        return str(self.raw)

    @property
    def access_log(self) -> Path:
        return self.home / "logs" / "access.log"

    @property
    def seen_log(self) -> str:
        return str(self.access_log)

    @property
    def key_file(self) -> Path:
        return self.home / "admin-key"

    @property
    def key(self) -> str:
        return self.key_file.read_text().strip()

    def start(self) -> float:
        """Starts the services and returns how many seconds it took until they were ready. Raises StartFailed."""
        began = time.monotonic()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AIMASS_")}
        self.env = kept | {
            "TMPDIR": str(self.folder / "tmp"),  # what a library leaves there goes with the folder
            "AIMASS_HOME": str(self.home),
            "AIMASS_GATEWAY_HTTP_PORT": "0",
            "AIMASS_GATEWAY_GRPC_PORT": "0",
            "AIMASS_GATEWAY_DRAIN_ACCEPT_SECONDS": "0",
            "AIMASS_GATEWAY_DRAIN_SILENT_SECONDS": "0.2",
            "AIMASS_DRAIN_SECONDS": "3",
            "AIMASS_DISK_PERCENT": "100",  # it is thrown away, however full the disk is that it is tried on
            "AIMASS_DATA_FILE_ROOTS": os.pathsep.join([str(self.raw), str(self.home / "logs")]),
            "AIMASS_EGRESS_ALLOW": self.sink.address,
        }
        (self.folder / "tmp").mkdir()
        with (self.folder / "services.log").open("wb") as log:
            command = [sys.executable, "-m", "services"]
            with STOPPING.held():
                self.process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log, start_new_session=True)
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() - began > _START:
                raise StartFailed((self.folder / "services.log").read_text()[-2000:] or "the services do not answer")
            time.sleep(0.02)
        return time.monotonic() - began

    def connection(self, seconds: float) -> http.client.HTTPConnection:
        """A plain connection to its HTTP door."""
        return http.client.HTTPConnection(urlsplit(self.doors["http"]).netloc, timeout=seconds)

    def _ready(self) -> bool:
        try:
            self.doors = json.loads((self.home / "doors.json").read_text())
            with contextlib.closing(self.connection(2)) as connection:
                connection.request("GET", "/health/ready")
                return connection.getresponse().status == 200
        except (OSError, json.JSONDecodeError, http.client.HTTPException):
            return False

    def stop(self) -> None:
        """Ends the services, and what they started, for sure."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(_STOP)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextlib.contextmanager
def installed(keep: bool) -> Iterator[Installation]:
    """An installation for a block. Its folder stays if the block fails or `keep` says so; its processes never do."""
    found, wanted = None, False
    try:
        with STOPPING.held():
            found = Installation(Path(tempfile.mkdtemp(prefix="aimass-flights-")), Sink())
        with found.sink:
            yield found
    except KeyboardInterrupt:
        wanted = True  # whoever stops the story has no use for what is left of it
        raise
    except BaseException:
        keep = True
        raise
    finally:
        with STOPPING.held():
            if found:
                found.stop()
                if wanted or not keep:
                    shutil.rmtree(found.folder, ignore_errors=True)
