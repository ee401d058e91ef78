"""Trainings in containers: without network, with a read-only root, as an unprivileged user, within limits.

The entry module and the messages are those of a child process, over standard input and output. Files are streamed into
a volume of the container and out of it: no path of this machine is mounted, so the engine may be on another one. When
the worker dies, the engine closes the container's input, and the work ends.
"""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import docker
from docker.errors import DockerException
from docker.utils import kwargs_from_env

from services.kit.child import LENGTH, frame
from services.kit.config import ConfigError
from services.kit.disk import on_disk
from services.kit.errors import Code, Failure, Internal, Unavailable, Violation
from services.kit.messages import length_of, parse
from services.kit.process import Killed, Limits
from services.trainer.containers import LABEL, UNTIL, VOLUME, Container
from services.trainer.engine import Engine
from services.trainer.runner import WORK, Json, Progress

log = logging.getLogger(__name__)
T = TypeVar("T")
_PINNED = re.compile(r"([a-z0-9][a-z0-9._:/-]*@)?sha256:[0-9a-f]{64}")
_SETTLED = 120.0  # seconds after which nobody waits for a container that has ended
_LOGGED = 2**20  # bytes of standard error that are logged


class DockerRunner:
    """Runs each training in a container, from a pinned image: `name@sha256:...`, or the id of a local one."""

    def __init__(self, image: str, owner: Callable[[], str], module: str = WORK) -> None:
        """`start` removes containers of `owner()` that are there already. Raises ConfigError."""
        if not _PINNED.fullmatch(image):
            raise ConfigError("AIMASS_TRAINER_IMAGE: must be name@sha256:<digest>, or the sha256:<id> of a local image")
        self._image, self._owner, self._module = image, owner, module
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="containers")
        self._engine: Engine | None = None

    async def start(self) -> None:
        """Checks the engine, pulls a missing image, removes containers of dead workers. Raises ConfigError."""
        try:
            await self._do(self._find_image)
            await self._do(self._sweep, True)
        except DockerException as error:
            raise ConfigError(f"AIMASS_TRAINER_RUNNER: {self._image} cannot be run: {_text(error)}") from None

    async def ready(self) -> None:
        """See Runner. Removes containers that nobody waits for."""
        with _engine_failures():
            await self._do(self._sweep, False)

    async def run(self, request: Json, limits: Limits, progress: Progress) -> Json:
        """See Runner."""
        inside, files = _for_container(request)
        with _engine_failures(), on_disk():
            labels = {LABEL: await self._do(self._owner), UNTIL: str(int(time.time() + limits.seconds + _SETTLED))}
            container = Container(self._client(), self._image, self._module, limits, labels)
            return await self._within(container, inside, files, Path(request["folder"]), limits, progress)

    async def _within(
        self,
        container: Container,
        request: Json,
        files: dict[str, Path],
        folder: Path,
        limits: Limits,
        progress: Progress,
    ) -> Json:
        # One thread reads output until the container is gone, another does the rest in order: a container whose
        # creation was cancelled too late is removed after it was created.
        reading, working = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limits.seconds):
                await loop.run_in_executor(working, container.create, files)
                await loop.run_in_executor(working, container.start, frame(request))
                result = await _result(container, reading, limits, progress)
            await loop.run_in_executor(working, container.fetch, sorted(result.get("files", ())), folder)
            return result
        except TimeoutError:
            raise Failure(Code.LIMIT_EXCEEDED, f"the work took longer than {limits.seconds:g} s") from None
        finally:
            gone = loop.run_in_executor(working, _remove, container)
            working.shutdown(wait=False)
            reading.shutdown(wait=False)
            await asyncio.shield(gone)

    async def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        if self._engine:
            self._engine.close()

    async def _do(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _client(self) -> Engine:
        if self._engine is None:
            self._engine = Engine(**kwargs_from_env(), version="auto")
        return self._engine

    def _find_image(self) -> None:
        engine = self._client()
        try:
            engine.inspect_image(self._image)  # type: ignore[no-untyped-call]
        except docker.errors.ImageNotFound:
            if "@" not in self._image:
                raise
            engine.pull(self._image)

    def _sweep(self, own: bool) -> None:
        """Removes containers that nobody waits for: of this owner if `own`, over their time, or long ended."""
        engine = self._client()
        for found in engine.containers(all=True, filters={"label": LABEL}):
            labels = found["Labels"]
            mine = own and labels[LABEL] == self._owner()
            if mine or time.time() > float(labels.get(UNTIL, 0)) or _ended(engine, found["Id"]) > _SETTLED:
                log.warning("removed a container that a dead worker left: %s", found["Names"][0].lstrip("/"))
                Container.discard(engine, found["Id"])


@contextlib.contextmanager
def _engine_failures() -> Iterator[None]:
    """Raises unavailable for any failure of the engine: as our requests are always the same, it will pass."""
    try:
        yield
    except DockerException as error:
        log.warning("the container engine failed: %s", _text(error))
        raise Unavailable("the container engine is away") from None


def _remove(container: Container) -> None:
    """Removes a container. If that fails its result is good all the same, and a later sweep removes it."""
    try:
        container.remove()
    except DockerException as error:
        log.warning("the container %s is not removed yet: %s", container.name, _text(error))


def _ended(engine: Engine, found: str) -> float:
    """Seconds since a container ended; 0 if it has not ended or is gone."""
    try:
        state = engine.inspect_container(found)["State"]
    except docker.errors.NotFound:
        return 0.0
    if state["Status"] != "exited":
        return 0.0
    when = datetime.strptime(state["FinishedAt"][:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    return time.time() - when.timestamp()


async def _result(container: Container, reading: ThreadPoolExecutor, limits: Limits, progress: Progress) -> Json:
    """Reads output until the result, reporting progress. Raises what the work raised, or how the container ended."""
    loop, received = asyncio.get_running_loop(), bytearray()
    stderr = _Stderr(container.name)
    while piece := await loop.run_in_executor(reading, container.read):
        if not piece[0]:
            stderr.take(piece[1])
            continue
        received += piece[1]
        while (body := _cut(received)) is not None:
            result, message = parse(body)
            if result is not None:
                await _drain(container, reading, stderr)
                return result
            await progress(message)
    state = await loop.run_in_executor(reading, container.state)
    raise _death(container, state, limits, stderr.last.decode(errors="replace"))


class _Stderr:
    """Standard error of a container: logged up to a bound; the end is kept."""

    def __init__(self, name: str) -> None:
        self._name, self._left, self.last = name, _LOGGED, b""

    def take(self, data: bytes) -> None:
        self.last, self._left = (self.last + data)[-8192:], self._left - len(data)
        if self._left >= 0:
            log.info("%s: %s", self._name, data.decode(errors="replace").rstrip()[:2000])


async def _drain(container: Container, reading: ThreadPoolExecutor, stderr: _Stderr) -> None:
    """Reads the rest of standard error: the engine keeps no order between the streams."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            while piece := await asyncio.get_running_loop().run_in_executor(reading, container.read):
                if not piece[0]:
                    stderr.take(piece[1])


def _cut(received: bytearray) -> bytes | None:
    """Removes the first whole message; None while there is none."""
    if len(received) < LENGTH.size:
        return None
    end = LENGTH.size + length_of(bytes(received[: LENGTH.size]))
    if len(received) < end:
        return None
    body = bytes(received[LENGTH.size : end])
    del received[:end]
    return body


def _death(container: Container, state: Json, limits: Limits, stderr: str) -> Failure:
    """The failure for a container that ended without a result."""
    if state.get("OOMKilled"):
        return Failure(Code.LIMIT_EXCEEDED, f"the work needs more than {limits.memory_mib} MiB")
    about, status = [Violation("", stderr[-2000:])], int(state.get("ExitCode", 0))
    if status > 128:
        return Killed(Code.INTERNAL, f"{container.module} was killed by signal {status - 128}", about)
    return Internal(f"{container.module} died", about)


def _for_container(request: Json) -> tuple[Json, dict[str, Path]]:
    """The request with paths of the container, and the files by their names in its volume."""
    files = {f"in/{number}": Path(file) for number, file in enumerate(request["files"])}
    inside = {"files": [f"{VOLUME}/{name}" for name in files], "folder": f"{VOLUME}/out"}
    if request.get("graph"):
        files["in/graph"], inside["graph"] = Path(request["graph"]), f"{VOLUME}/in/graph"
    return {**request, **inside}, files


def _text(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error).splitlines()[0][:300].lower()
