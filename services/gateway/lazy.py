"""An ASGI application that is made after the doors are open: importing its framework takes longer than a start may."""

import asyncio
from collections.abc import Callable
from typing import Any

from services.gateway.edge import Asgi


class LazyApp:
    """An ASGI application that is made once: by `warm`, or by the first request that needs it."""

    def __init__(self, make: Callable[[], Asgi], begin: asyncio.Event) -> None:
        """`make` is called in a thread; `begin` is set when there is time for it."""
        self._make, self._begin = make, begin
        self._lock = asyncio.Lock()
        self._app: Asgi | None = None

    async def warm(self) -> None:
        """Makes the application as soon as there is time."""
        await self._begin.wait()
        await self._made()

    async def _made(self) -> Asgi:
        async with self._lock:
            if self._app is None:
                self._app = await asyncio.to_thread(self._make)
            return self._app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        app = self._app or await self._made()
        await app(scope, receive, send)
