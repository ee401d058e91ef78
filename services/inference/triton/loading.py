"""Keeps versions on a Triton server: pushed, tried, pushed again when the server has lost them, let go."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence, Set
from weakref import WeakValueDictionary

from services.inference.domain.engines import Released
from services.inference.domain.tensors import Values
from services.inference.triton import trial
from services.inference.triton.configuration import ONNX, PYTHON, Description, describe, program
from services.inference.triton.needs import RENEW, Needs
from services.inference.triton.server import Gone, Server
from services.inference.triton.version import Placed, TritonVersion
from services.kit import graphs
from services.kit.errors import Code, DeadlineExceeded, Failure, Unavailable

log = logging.getLogger(__name__)
_LOOK, _PATIENCE = 0.25, 0.5  # seconds between looks at the server, and for its answer
_COMPARE = 10.0  # seconds until what the server has is compared with what it should have
_AGAIN = 2.0  # seconds until a version that could not be brought back is tried again
_TRIAL = 60.0  # seconds for the calls that try a version
_LATE = 600.0  # seconds in which the server may still end a push that was given up
_AT_ONCE = 2  # versions that are pushed at a time: each starts a process there


class TritonLoader:
    """Every version that this instance has on one server."""

    def __init__(self, server: Server, most: int, needs: Needs) -> None:
        """At most `most` calls are under way; more are refused."""
        self.up = False
        self._needs, self._wanted, self._idle = needs, set[str](), set[str]()
        # What was to be taken from the server and is not yet, or may still come there; and since when.
        self._left: dict[str, float] = {}
        self._server, self._most, self._calls = server, most, 0
        self._versions: dict[str, TritonVersion] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._pushes = asyncio.Semaphore(_AT_ONCE)
        self._healing: dict[str, asyncio.Task[None]] = {}
        self._tried: dict[str, float] = {}
        self._news: list[TritonVersion] = []
        self._arrived, self._wake = asyncio.Event(), asyncio.Event()
        # Whether the server may have the back end for ONNX: seen when a version is pushed.
        self._onnx = True

    async def load(self, name: str, released: Released, read: Callable[[], Awaitable[bytes]]) -> TritonVersion:
        version = TritonVersion(name, released, read, self._server, self)
        async with self._lock(name):
            self._wanted.add(name)
            try:
                await self._announce()  # before it is looked for, so that no other instance unloads it now
                await self._place(version)
                version.up = True
                self._versions[name] = version
            except DeadlineExceeded as failure:
                if await self._server.alive(_PATIENCE):
                    raise
                # It is not the graph that took too long.
                raise Unavailable("the model's engine is away", retry_after=1) from failure
            finally:
                if name not in self._versions:
                    self._wanted.discard(name)
                    self._left[name] = time.monotonic()  # what failed may be on the server, or come there later
        return version

    async def changed(self) -> Sequence[TritonVersion]:
        await self._arrived.wait()
        self._arrived.clear()
        news, self._news = self._news, []
        return news

    async def watch(self) -> None:
        """Looks at the server for ever: what it has lost comes back, what it cannot answer is said."""
        async with asyncio.TaskGroup() as group:  # where one fails the other ends with it: both begin again
            group.create_task(self._look())
            group.create_task(self._server.watch())

    async def _look(self) -> None:
        compared = renewed = 0.0
        while True:
            self._wake.clear()
            if time.monotonic() - renewed > RENEW:
                await self._announce()
                renewed = time.monotonic()
            if not await self._alive():
                self._down()
            elif (due := time.monotonic() - compared > _COMPARE) or not self.up or self._waiting():
                with contextlib.suppress(Failure, Gone):
                    there = await self._compare()
                    if due:
                        compared = time.monotonic()
                        await self._sweep(there)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._wake.wait()

    async def _alive(self) -> bool:
        """A second try, since a busy machine may be late once; a server that answers others is only busy."""
        began = time.monotonic()
        if await self._server.alive(_PATIENCE) or await self._server.alive(_PATIENCE):
            return True
        return self._server.answered > began

    async def close(self) -> None:
        for task in self._healing.values():
            task.cancel()
        with contextlib.suppress(Failure):
            await self._needs.withdraw()
        await self._server.close()

    def enter(self) -> None:
        if self._calls >= self._most:
            raise Failure(Code.OVERLOADED, "too many calls wait for an engine", retry_after=0.1)
        self._calls += 1

    def leave(self) -> None:
        self._calls -= 1

    def lost(self) -> None:
        self._wake.set()

    async def heal(self, version: TritonVersion, broken: bool) -> None:
        await asyncio.shield(self._heal(version, broken))
        if not version.up:
            raise Unavailable("the model's engine is away", retry_after=1)

    async def drop(self, version: TritonVersion) -> None:
        async with self._lock(version.name):
            if self._versions.get(version.name) is not version:
                return
            del self._versions[version.name]
            self._wanted.discard(version.name)
            self._tried.pop(version.name, None)
            await self._announce()
            await self._forget({version.name})

    async def _announce(self) -> None:
        try:
            await self._needs.say(self._wanted)
        except Unavailable as failure:  # what others then take away comes back when it is asked for
            log.debug("the versions that are needed cannot be announced: %s", failure.detail)

    async def _forget(self, names: Set[str]) -> None:
        """Unloads versions that no instance needs; what cannot be decided now is left to a later look."""
        self._left |= dict.fromkeys(names, time.monotonic())
        try:
            needed = await self._needs.of_others()
        except Failure as failure:
            log.warning("no version is unloaded from Triton: %s", failure)
            return
        for name in sorted(names):
            if name not in needed and name not in self._wanted and not await self._unloaded(name):
                continue
            self._left.pop(name, None)

    async def _unloaded(self, name: str) -> bool:
        try:
            await self._server.unload(name)
        except (Failure, Gone) as failure:
            log.warning("%s cannot be unloaded from Triton: %s", name, failure)
            return False
        log.info("%s is unloaded from Triton", name)
        return True

    def _down(self) -> None:
        self.up, self._onnx = False, True
        for version in self._versions.values():
            self._set(version, False)

    def _set(self, version: TritonVersion, up: bool) -> None:
        if version.up != up:
            version.set(up)
            self._news.append(version)
            self._arrived.set()

    def _waiting(self) -> bool:
        now = time.monotonic()
        down = [name for name, v in self._versions.items() if not v.up and name not in self._healing]
        return any(now - self._tried.get(name, 0) > _AGAIN for name in down)

    async def _compare(self) -> set[str]:
        """What the server has."""
        there = await self._server.loaded()
        self.up = True
        for version in list(self._versions.values()):
            if not version.up or version.name not in there:
                self._heal(version)
        return there

    async def _sweep(self, there: set[str]) -> None:
        """Unloads leftovers, also of an instance that died: pushed by one of us, and needed by none at two looks."""
        now = time.monotonic()
        self._left = {name: since for name, since in self._left.items() if name in there or now - since < _LATE}
        idle = there - self._wanted - await self._needs.of_others() if self._needs.shared else set()
        again, self._idle = idle & self._idle, idle
        ours = {name for name in again if await self._server.parameter(name, "digest")}
        if gone := ours | (self._left.keys() & there):
            await self._forget(gone)

    def _heal(self, version: TritonVersion, broken: bool = False) -> asyncio.Task[None]:
        task = self._healing.get(version.name)
        if task is None:
            work = self._bring_back(version, broken)
            task = self._healing[version.name] = asyncio.get_running_loop().create_task(work)
            task.add_done_callback(lambda _: self._healing.pop(version.name, None))
        return task

    async def _bring_back(self, version: TritonVersion, broken: bool) -> None:
        async with self._lock(version.name):
            if self._versions.get(version.name) is not version:
                return
            try:
                if broken:
                    await self._server.unload(version.name)
                await self._place(version)
                self._set(version, True)
                log.info("%s is back on Triton", version.name)
            except (Failure, Gone) as failure:
                self._set(version, False)
                self._tried[version.name] = time.monotonic()
                log.warning("%s cannot be brought back: %s", version.name, failure)

    async def _place(self, version: TritonVersion) -> None:
        """Puts a version on the server in the first way that it can be served."""
        there = await self._server.parameter(version.name, "digest")
        if there and there == version.placed.digest:
            return
        ways = list(self._ways(version))
        known = [described.digest for _, described, _ in ways]
        for backend, described, released in ways[known.index(there) if there in known else 0 :]:
            try:
                if described.digest != there:
                    await self._push(version, described)
                placed = Placed(released.signature, described.rows, described.digest)
                if await self._tried_out(version, placed):
                    log.info("%s runs on Triton's back end %s", version.name, backend)
                    return
                log.warning("%s is not batch-invariant on Triton's back end %s", version.name, backend)
            except Failure as failure:
                # Also one of the server's: should it be away, the last way says so.
                if backend == PYTHON:
                    raise
                self._onnx = self._onnx and "backend" not in failure.detail
                log.info("%s: not on Triton's back end %s: %s", version.name, backend, failure.detail)

    def _ways(self, version: TritonVersion) -> Iterator[tuple[str, Description, Released]]:
        """The quickest first. What turns out to depend on its batch is served without joining requests."""
        released = version.released
        backends = (ONNX, PYTHON) if self._onnx and released.signature.batch_invariant else (PYTHON,)
        for backend in backends:
            yield backend, describe(version.name, released, backend), released
        if released.signature.batch_invariant:
            single = released._replace(signature=released.signature._replace(batch_invariant=False))
            yield PYTHON, describe(version.name, single, PYTHON), single

    async def _push(self, version: TritonVersion, described: Description) -> None:
        async with self._pushes:
            data = await version.read()
            await asyncio.to_thread(graphs.check, data)
            files = {"1/model.onnx": data, "1/model.py": program()}
            await self._server.load(version.name, described.config, files)

    async def _tried_out(self, version: TritonVersion, placed: Placed) -> bool:
        version.placed = placed
        signature, names = placed.signature, [spec.name for spec in placed.signature.outputs]

        async def run(values: Sequence[Values]) -> list[Values]:
            return await version.attempt(values, names, time.monotonic() + _TRIAL)

        await trial.warm_up(run, signature)
        return not signature.batch_invariant or await trial.invariant(run, signature)

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())
