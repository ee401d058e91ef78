"""The use cases: calls of engines, and lists of what is loaded."""

import asyncio
import logging
import time
from collections.abc import Sequence

from services.inference.domain import batches
from services.inference.domain.batches import Answer, Item, Joined
from services.inference.domain.engines import Engine as View
from services.inference.domain.engines import Release
from services.inference.engine import Engine
from services.inference.registry import Registry
from services.inference.service.catalogue import Catalogue, Key
from services.kit import pages
from services.kit.auth import Scope
from services.kit.errors import Failure, NotFound
from services.kit.pages import Page
from services.kit.tensors import Tensor

log = logging.getLogger(__name__)
_SOON = 0.5  # seconds until the second look at the registry; each next one waits twice as long


class Inference:
    """One instance."""

    def __init__(self, catalogue: Catalogue, registry: Registry, longest: float) -> None:
        """Looks at the registry every `longest` seconds."""
        self._catalogue, self._registry, self._longest = catalogue, registry, longest
        self._known = False

    @property
    def ready(self) -> bool:
        """Everything that releases named at the start was tried, and what runs models can be reached."""
        return self._known and self._catalogue.up

    async def infer(self, scope: Scope, model: str, version: int, items: Sequence[Item]) -> list[Answer]:
        """An answer for each item. Raises not_found when the version is not loaded, unavailable, overloaded."""
        return await self._engine(scope, model, version).infer(items)

    async def infer_joined(
        self, scope: Scope, model: str, version: int, joined: Joined
    ) -> tuple[list[Tensor] | None, list[Answer]]:
        """The rows of all when all went well; else None, and an answer for each request. Raises the same."""
        engine, joined = self._engine(scope, model, version), Joined(*joined)
        if item := batches.whole(engine.signature, joined, time.monotonic()):
            (answer,) = await engine.infer([item])
            total = sum(joined.rows)
            if not isinstance(answer, Failure) and all(tensor.shape[:1] == (total,) for tensor in answer):
                return answer, []
        return None, await engine.infer(joined.apart())

    def _engine(self, scope: Scope, model: str, version: int) -> Engine:
        entry = self._catalogue.find(Key(scope, model, version))
        if entry is None or entry.engine is None:
            raise NotFound(f"{model} has no version {version} that is loaded")
        return entry.engine

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
        """Takes in a changed release."""
        await self._catalogue.hear(scope, release)

    async def follow(self) -> None:
        """Takes snapshots of the registry for ever: at once, soon again, then at intervals."""
        wait = _SOON
        while True:
            try:
                async for scope, release in self._registry.releases():
                    await self._catalogue.hear(scope, release, again=True)
                await self._catalogue.settled()
                self._known = True
            except Failure as failure:
                log.warning("releases are not known: %s", failure.detail)
            await asyncio.sleep(wait)
            wait = min(wait * 2, self._longest)

    async def close(self) -> None:
        """Waits for the calls that are being answered."""
        await self._catalogue.close()
