"""Runs trainings: in child processes, or in containers (`runner_docker`)."""

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
    """Runs the entry module on requests of services.trainer.workers.request.

    `graph` and `files` of a request are paths on this machine that are read; files that the result names are written to
    `folder`.
    """

    async def start(self) -> None:
        """Raises ConfigError if work cannot run here."""

    async def ready(self) -> None:
        """Raises unavailable while no work can begin."""

    async def run(self, request: Json, limits: Limits, progress: Progress) -> Json:
        """The result. Raises what the work raised, limit_exceeded, unavailable, or internal when it died.

        Cancelling ends the work and leaves nothing of it.
        """

    async def close(self) -> None:
        """Releases its resources; nothing runs any more."""


class ProcessRunner:
    """Runs each training in a child process."""

    def __init__(self, module: str = WORK) -> None:
        self._module = module

    async def start(self) -> None:
        """Nothing is needed."""

    async def ready(self) -> None:
        """Nothing is needed."""

    async def run(self, request: Json, limits: Limits, progress: Progress) -> Json:
        return await process.run(self._module, request, limits, progress)

    async def close(self) -> None:
        """It has no resources."""


def runner(config: Config, owner: Callable[[], str]) -> Runner:
    """The runner of the settings; `owner` returns the mark of the containers of this trainer. Raises ConfigError."""
    if config.runner == "process":
        return ProcessRunner()
    from services.trainer.runner_docker import DockerRunner

    return DockerRunner(config.image, owner)


def owner_of(home: Path, near: bool, instance: str) -> str:
    """The mark of what this trainer starts: of its home if `near`, where one process has the database; else `instance`.

    Homes differ in their marks by the random content of a file, and copies of one home by their paths.
    """
    if not near:
        return instance
    note = home / "trainer.id"
    if not note.exists() or not note.read_text():  # a crash can leave it empty
        note.write_text(uuid7())
    return sha256(f"{note.read_text()} {home}".encode()).hexdigest()[:16]
