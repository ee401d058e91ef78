"""Where a training runs: in a child process of this machine, or in a container (`runner_docker`)."""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from services.kit import process
from services.kit.process import Limits
from services.kit.timestamps import uuid7
from services.trainer.config import Config

Json = dict[str, Any]
Progress = Callable[[Json], Awaitable[None]]
WORK = "services.trainer.work"


class Runner(Protocol):
    """Runs the entry module on requests as services.trainer.workers.request makes them.

    `graph` and `files` of a request are files that are read, `folder` is where those are written that the result names
    under `files`; all of this machine.
    """

    async def start(self) -> None:
        """Makes sure that work can run. Raises ConfigError when it cannot."""

    async def ready(self) -> None:
        """Returns when work can begin now. Raises unavailable while it cannot."""

    async def run(self, request: Json, limits: Limits, progress: Progress) -> Json:
        """The result. Raises what the work raised, limit_exceeded, unavailable, or internal when it died.

        Cancelling ends the work and leaves nothing of it.
        """

    async def close(self) -> None:
        """Lets go of what it holds; nothing runs any more."""


class ProcessRunner:
    """The near one: `kit.process`."""

    def __init__(self, module: str = WORK) -> None:
        self._module = module

    async def start(self) -> None:
        """Nothing is needed."""

    async def ready(self) -> None:
        """Always."""

    async def run(self, request: Json, limits: Limits, progress: Progress) -> Json:
        return await process.run(self._module, request, limits, progress)

    async def close(self) -> None:
        """Nothing is held."""


def runner(config: Config, owner: Callable[[], str]) -> Runner:
    """What the settings choose; `owner` says what marks the things that this process starts. Raises ConfigError."""
    if config.runner == "process":
        return ProcessRunner()
    from services.trainer.runner_docker import DockerRunner

    return DockerRunner(config.image, owner)


def owner_of(home: Path, near: bool, instance: str) -> str:
    """Who starts work: on a database file that nobody else can hold, always the same; else this process.

    A home is told from one of the same path on another machine, and from a copy of it at another path.
    """
    if not near:
        return instance
    note = home / "trainer.id"
    if not note.exists() or not note.read_text():  # a crash may have left it empty
        note.write_text(uuid7())
    return sha256(f"{note.read_text()} {home}".encode()).hexdigest()[:16]
