"""Answers: calls of engines, and what is loaded where."""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from services.inference.domain import batches
from services.inference.domain.batches import Answer, Item
from services.inference.domain.engines import Engine as View
from services.inference.domain.engines import Release
from services.inference.engine import Engine
from services.inference.registry import Registry
from services.inference.service.catalogue import Catalogue, Entry, Key
from services.kit import pages
from services.kit.auth import Scope
from services.kit.errors import Code, DeadlineExceeded, Failure, NotFound
from services.kit.pages import Page

log = logging.getLogger(__name__)
# What is answered on the event loop: handing a call to a thread takes longer than such a call itself.
_QUICK_SECONDS, _QUICK_ROWS, _QUICK_BYTES = 0.0005, 64, 64 * 1024
_SOON = 0.5  # seconds until the second look at the registry; each next one waits twice as long


class Inference:
    """One instance."""

    def __init__(self, catalogue: Catalogue, registry: Registry, threads: int, queue: int, longest: float) -> None:
        """Answers `threads` calls at a time, lets `queue` wait; looks at the registry every `longest` seconds."""
        self._catalogue, self._registry = catalogue, registry
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="engine")
        self._most, self._longest = threads + queue, longest
        self._calls = 0
        self.ready = False

    async def infer(self, scope: Scope, model: str, version: int, items: Sequence[Item]) -> list[Answer]:
        """An answer for each item. Raises not_found when the version is not loaded, overloaded.

        Small calls of quick engines are answered on the spot: one who asks in a row lets others work in between.
        """
        entry = self._catalogue.find(Key(scope, model, version))
        if entry is None or entry.engine is None:
            raise NotFound(f"{model} has no version {version} that is loaded")
        if self._calls >= self._most:
            raise Failure(Code.OVERLOADED, "too many calls wait for an engine", retry_after=0.1)
        if _at_once(entry.engine, items):
            return _answer(entry.engine, items)
        self._calls += 1
        entry.enter()
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(self._threads, _answer, entry.engine, items)
        call.add_done_callback(lambda _: self._done(entry))
        try:
            async with asyncio.timeout(max(item.deadline for item in items) - time.monotonic()):
                # The thread goes on when the caller gives up; what is counted as in flight must be what is.
                return await asyncio.shield(call)
        except TimeoutError:
            return [DeadlineExceeded(f"{model} took too long")] * len(items)

    def _done(self, entry: Entry) -> None:
        self._calls -= 1
        entry.leave()

    def page(self, scope: Scope, page_size: int, page_token: str) -> Page[View]:
        """The scope's versions by model and number."""
        last = pages.after(page_token, str, int)
        mine = [view for owner, view in self._catalogue.views() if owner == scope]
        rest = [view for view in mine if last is None or (view.model, view.version) > last]
        size = pages.size(page_size)
        return pages.cut(rest[: size + 1], size, lambda view: (view.model, view.version))

    def all(self) -> list[tuple[Scope, View]]:
        """The versions of every tenant."""
        return list(self._catalogue.views())

    async def release_changed(self, scope: Scope, release: Release) -> None:
        """The registry has spoken."""
        await self._catalogue.hear(scope, release)

    async def follow(self) -> None:
        """Looks at the registry for ever: at once, soon again for what was said meanwhile, then now and then."""
        wait = _SOON
        while True:
            try:
                async for scope, release in self._registry.releases():
                    await self._catalogue.hear(scope, release, again=True)
                await self._catalogue.settled()
                self.ready = True
            except Failure as failure:
                log.warning("releases are not known: %s", failure.detail)
            await asyncio.sleep(wait)
            wait = min(wait * 2, self._longest)

    async def close(self) -> None:
        """Waits for the calls that are being answered."""
        self._threads.shutdown(cancel_futures=True)
        self._catalogue.close()


def _at_once(engine: Engine, items: Sequence[Item]) -> bool:
    if engine.seconds > _QUICK_SECONDS:
        return False
    rows = size = 0
    for item in items:
        for tensor in item.inputs:
            size += len(tensor.raw)
        rows += max((tensor.shape[0] for tensor in item.inputs if tensor.shape), default=1)
    return rows <= _QUICK_ROWS and size <= _QUICK_BYTES


def _answer(engine: Engine, items: Sequence[Item]) -> list[Answer]:
    return batches.answer(engine.run, engine.signature, items, time.monotonic())
