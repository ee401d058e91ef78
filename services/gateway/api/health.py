"""Health over HTTP: whether the process lives and can answer."""

from collections.abc import Callable
from typing import Any

import orjson

from services.gateway.api.problem import NotAllowed
from services.gateway.request import Request, Response
from services.kit.errors import Unavailable


class Health:
    """Liveness and readiness; callers with a valid key also see the readiness of each service."""

    def __init__(self, ready: Callable[[], bool], parts: Callable[[], dict[str, bool]]) -> None:
        self._ready, self._parts = ready, parts
        # Says whether the request has a valid key.
        self.known: Callable[[Request], bool] = lambda request: False

    async def live(self, request: Request) -> Response:
        """Answers while the event loop runs."""
        return self._answer(request, {"status": "live"})

    async def ready(self, request: Request) -> Response:
        """Raises unavailable while the process starts, stops, or lacks something."""
        if not self._ready():
            raise Unavailable("not ready", retry_after=1)
        return self._answer(request, {"status": "ready"})

    def _answer(self, request: Request, content: dict[str, Any]) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise NotAllowed(request.method, "GET, HEAD")
        if b"authorization" in request.headers and self.known(request):
            content = content | {"services": self._parts()}
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        return Response(200, orjson.dumps(content), headers)
