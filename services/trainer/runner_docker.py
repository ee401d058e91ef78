"""Trainings in containers: no network, a read-only root, a plain user, limits of the engine, nothing left behind.

The entry module is that of a child process, and so are the messages; they travel by standard input and output. Files
travel as streams into a volume of the container and out of it, so the engine may be another machine's, and no path of
this one is mounted. When the worker dies, the engine closes the container's input, and the work ends.
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
_SETTLED = 120.0  # seconds after which a container that has ended belongs to nobody who lives
_SPOKEN = 2**20  # bytes of complaints that go to our log


class DockerRunner:
    """The far one. Its image is pinned: `name@sha256:...`, or the id of one that was built on the engine's machine."""

    def __init__(self, image: str, owner: Callable[[], str], module: str = WORK) -> None:
        """Containers of `owner()` that are there before `start` are of the dead. Raises ConfigError."""
        if not _PINNED.fullmatch(image):
            raise ConfigError("AIMASS_TRAINER_IMAGE: must be name@sha256:<digest>, or the sha256:<id> of a local image")
        self._image, self._owner, self._module = image, owner, module
        self._hands = ThreadPoolExecutor(4, thread_name_prefix="containers")
        self._engine: Engine | None = None

    async def start(self) -> None:
        """Looks for the engine and the image, and removes what dead workers left. Raises ConfigError."""
        try:
            await self._do(self._look)
            await self._do(self._sweep, True)
        except DockerException as error:
            raise ConfigError(f"AIMASS_TRAINER_RUNNER: {self._image} cannot be run: {_said(error)}") from None

    async def ready(self) -> None:
        """See Runner. Removes what nobody waits for."""
        with _asked():
            await self._do(self._sweep, False)

    async def run(self, request: Json, limits: Limits, progress: Progress) -> Json:
        """See Runner."""
        inside, files = _moved(request)
        with _asked(), on_disk():
            labels = {LABEL: await self._do(self._owner), UNTIL: str(int(time.time() + limits.seconds + _SETTLED))}
            container = Container(self._client(), self._image, self._module, limits, labels)
            return await self._within(container, inside, files, Path(request["folder"]), limits, progress)

    async def _within(
        self, container: Container, request: Json, files: dict[str, Path], folder: Path, limits: Limits, hear: Progress
    ) -> Json:
        # Each has a thread of its own: one hears until the container is gone, one does the rest in order. So what
        # a cancelled creation makes after all is removed after it.
        ears, hands = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limits.seconds):
                await loop.run_in_executor(hands, container.create, files)
                await loop.run_in_executor(hands, container.start, frame(request))
                result = await _talk(container, ears, limits, hear)
            await loop.run_in_executor(hands, container.fetch, sorted(result.get("files", ())), folder)
            return result
        except TimeoutError:
            raise Failure(Code.LIMIT_EXCEEDED, f"the work took longer than {limits.seconds:g} s") from None
        finally:
            gone = loop.run_in_executor(hands, _remove, container)
            hands.shutdown(wait=False)
            ears.shutdown(wait=False)
            await asyncio.shield(gone)

    async def close(self) -> None:
        self._hands.shutdown(cancel_futures=True)
        if self._engine:
            self._engine.close()

    async def _do(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._hands, work, *arguments)

    def _client(self) -> Engine:
        if self._engine is None:
            self._engine = Engine(**kwargs_from_env(), version="auto")
        return self._engine

    def _look(self) -> None:
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
def _asked() -> Iterator[None]:
    """Failures of the engine pass: our requests are always the same. Raises unavailable."""
    try:
        yield
    except DockerException as error:
        log.warning("the container engine failed: %s", _said(error))
        raise Unavailable("the container engine is away") from None


def _remove(container: Container) -> None:
    """One that cannot be removed now is found by a later sweep; what it brought is good all the same."""
    try:
        container.remove()
    except DockerException as error:
        log.warning("the container %s is not removed yet: %s", container.name, _said(error))


def _ended(engine: Engine, found: str) -> float:
    """Seconds since a container ended; 0 for one that runs, has not begun, or is gone."""
    try:
        state = engine.inspect_container(found)["State"]
    except docker.errors.NotFound:
        return 0.0
    if state["Status"] != "exited":
        return 0.0
    when = datetime.strptime(state["FinishedAt"][:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    return time.time() - when.timestamp()


async def _talk(container: Container, ears: ThreadPoolExecutor, limits: Limits, hear: Progress) -> Json:
    """Hears until the result."""
    loop, said = asyncio.get_running_loop(), bytearray()
    complaints = _Complaints(container.name)
    while piece := await loop.run_in_executor(ears, container.hear):
        if not piece[0]:
            complaints.take(piece[1])
            continue
        said += piece[1]
        while (body := _cut(said)) is not None:
            result, message = parse(body)
            if result is not None:
                await _rest(container, ears, complaints)
                return result
            await hear(message)
    state = await loop.run_in_executor(ears, container.state)
    raise _death(container, state, limits, complaints.last.decode(errors="replace"))


class _Complaints:
    """What a container prints to standard error: logged up to a bound, and the end is kept."""

    def __init__(self, name: str) -> None:
        self._name, self._left, self.last = name, _SPOKEN, b""

    def take(self, data: bytes) -> None:
        self.last, self._left = (self.last + data)[-8192:], self._left - len(data)
        if self._left >= 0:
            log.info("%s: %s", self._name, data.decode(errors="replace").rstrip()[:2000])


async def _rest(container: Container, ears: ThreadPoolExecutor, complaints: _Complaints) -> None:
    """What was printed before the result may come after it: the engine keeps no order between the two streams."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            while piece := await asyncio.get_running_loop().run_in_executor(ears, container.hear):
                if not piece[0]:
                    complaints.take(piece[1])


def _cut(said: bytearray) -> bytes | None:
    """The first whole message, taken out of what was said; nothing while there is none."""
    if len(said) < LENGTH.size:
        return None
    end = LENGTH.size + length_of(bytes(said[: LENGTH.size]))
    if len(said) < end:
        return None
    body = bytes(said[LENGTH.size : end])
    del said[:end]
    return body


def _death(container: Container, state: Json, limits: Limits, complaints: str) -> Failure:
    """The failure for a container that ended without a result."""
    if state.get("OOMKilled"):
        return Failure(Code.LIMIT_EXCEEDED, f"the work needs more than {limits.memory_mib} MiB")
    about, status = [Violation("", complaints[-2000:])], int(state.get("ExitCode", 0))
    if status > 128:
        return Killed(Code.INTERNAL, f"{container.module} was killed by signal {status - 128}", about)
    return Internal(f"{container.module} died", about)


def _moved(request: Json) -> tuple[Json, dict[str, Path]]:
    """The request with paths of the container, and the files that belong there by their names in its volume."""
    files = {f"in/{number}": Path(file) for number, file in enumerate(request["files"])}
    inside = {"files": [f"{VOLUME}/{name}" for name in files], "folder": f"{VOLUME}/out"}
    if request.get("graph"):
        files["in/graph"], inside["graph"] = Path(request["graph"]), f"{VOLUME}/in/graph"
    return {**request, **inside}, files


def _said(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error).splitlines()[0][:300].lower()
