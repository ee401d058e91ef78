"""The container of one training, from creation to removal. All of it blocks: call it in threads."""

import contextlib
import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from docker.errors import DockerException, NotFound
from docker.types import LogConfig, Ulimit

from services.kit.child import PIPES
from services.kit.process import Limits, entry, environment
from services.kit.timestamps import uuid7
from services.trainer.engine import Engine, pieces, reached
from services.trainer.parcels import pack, unpack

LABEL, UNTIL = "aimass.trainer", "aimass.until"  # who started it; until when somebody waits for it
USER = 10001  # of the image
VOLUME = "/training"  # where its files are inside: `in` and `out`
_TASKS = 256
_HEADER = 8  # bytes before each piece of output: its stream and length


class Container:
    """A hardened container; `name` is known before it is created."""

    def __init__(self, engine: Engine, image: str, module: str, limits: Limits, labels: Mapping[str, str]) -> None:
        self.name, self.module = f"aimass-training-{uuid7()}", module
        self._engine, self._image, self._limits, self._labels = engine, image, limits, dict(labels)
        self._response: Any = None
        self._stream: socket.socket | None = None

    def create(self, files: Mapping[str, Path]) -> None:
        """Creates it and copies files into its volume."""
        limits, engine = self._limits, self._engine
        processors = min(limits.threads, int(engine.info()["NCPU"]))
        host = engine.create_host_config(
            network_mode="none", read_only=True, init=True, cap_drop=["ALL"], security_opt=["no-new-privileges:true"],
            mem_limit=limits.memory_mib * 2**20, memswap_limit=limits.memory_mib * 2**20, pids_limit=_TASKS,
            nano_cpus=processors * 10**9, ulimits=[Ulimit(name="nofile", soft=limits.files, hard=limits.files)],
            tmpfs={"/tmp": "rw,noexec,nosuid,nodev,size=256m,mode=1777"}, log_config=LogConfig(type="none"),
        )  # fmt: skip
        engine.create_container(
            self._image, ["-c", entry(self.module)], name=self.name, entrypoint=["python"], user=f"{USER}:{USER}",
            stdin_open=True, environment=environment(PIPES, limits), volumes=[VOLUME], labels=self._labels,
            working_dir="/tmp", host_config=host, healthcheck={"test": ["NONE"]}, use_config_proxy=False,
        )  # fmt: skip
        engine.put_archive(self.name, VOLUME, pack(files, ("in", "out"), USER))

    def start(self, request: bytes) -> None:
        """Starts it and sends the request."""
        every = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        self._response = self._engine.attach_socket(self.name, params=every)
        self._stream = getattr(self._response, "_sock", self._response)
        assert self._stream
        self._stream.settimeout(None)
        self._engine.start(self.name)
        with reached():
            self._stream.sendall(request)

    def read(self) -> tuple[bool, bytes] | None:
        """Whether the next piece of output is of standard output, and the piece; None when the container has ended."""
        header = self._exactly(_HEADER)
        if len(header) < _HEADER:
            return None
        data = self._exactly(int.from_bytes(header[4:], "big"))
        return (header[0] == 1, data) if data else None

    def _exactly(self, count: int) -> bytes:
        assert self._stream
        data = b""
        with contextlib.suppress(OSError):
            while len(data) < count and (piece := self._stream.recv(count - len(data))):
                data += piece
        return data

    def state(self) -> dict[str, Any]:
        """Its state when it has ended."""
        with contextlib.suppress(DockerException):
            self._engine.wait(self.name, timeout=10)
        return dict(self._engine.inspect_container(self.name)["State"])

    def fetch(self, names: Collection[str], folder: Path) -> None:
        """Copies files that it wrote into a folder."""
        if names:
            stream, _ = self._engine.get_archive(self.name, f"{VOLUME}/out", chunk_size=65536)
            unpack(pieces(iter(stream)), names, folder)

    def remove(self) -> None:
        """Kills it and removes it with its volume."""
        try:
            self.discard(self._engine, self.name)
        finally:
            if self._stream:
                with contextlib.suppress(OSError):
                    self._stream.shutdown(socket.SHUT_RDWR)
                self._response.close()
                self._stream.close()

    @staticmethod
    def discard(engine: Engine, found: str) -> None:
        """Removes a container, if it is still there."""
        with contextlib.suppress(NotFound):
            engine.remove_container(found, force=True, v=True)
