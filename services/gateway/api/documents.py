"""Pages and documents: the OpenAPI document, and a page that shows it and works without internet."""

import asyncio
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import orjson
from fastapi import FastAPI
from starlette.requests import Request as WebRequest
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from services.gateway.api import negotiation, openapi
from services.gateway.api.negotiation import Lasting
from services.gateway.calls import Calls
from services.gateway.edge import SCOPE_KEY
from services.gateway.request import Request
from services.kit.contract import Method
from services.kit.errors import NotFound

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>AI Mass</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
# The whole address, without the credentials that the page's own may have: a browser would not fetch it.
_START = """window.ui = SwaggerUIBundle({
  url: location.origin + "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, filter: true, docExpansion: "none",
  persistAuthorization: false, tryItOutEnabled: true, displayRequestDuration: true, validatorUrl: null,
});
"""
_ASSETS = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
}
# The page's styles are set by its script; nothing is loaded from anywhere else.
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
_HEADERS = {"content-security-policy": _POLICY, "cache-control": "no-store", "referrer-policy": "no-referrer"}


class Documents:
    """Serves the OpenAPI document and its page."""

    def __init__(self, calls: Calls, version: str) -> None:
        self._calls, self._version = calls, version
        self._document: Lasting | None = None
        # The package holds the files of Swagger UI; its code is not run.
        found = importlib.util.find_spec("fastapi_swagger")
        self._assets = Path(found.origin).parent / "resources" if found and found.origin else Path()

    def mount(self, web: FastAPI) -> None:
        """Adds the routes; GET only."""
        pages = {"/": self._root, "/docs": self._page, "/docs/{asset}": self._asset, "/openapi.json": self._openapi}
        for path, endpoint in pages.items():
            web.router.routes.insert(0, Route(path, endpoint, methods=["GET"]))

    async def _root(self, web: WebRequest) -> Response:
        return RedirectResponse("/docs")

    async def _page(self, web: WebRequest) -> Response:
        return Response(_PAGE, headers=_HEADERS, media_type="text/html")

    async def _asset(self, web: WebRequest) -> Response:
        name = web.path_params["asset"]
        if name == "start.js":
            return Response(_START, headers=_HEADERS, media_type="text/javascript")
        if name not in _ASSETS:
            raise NotFound("there is no such path")
        content = await asyncio.to_thread((self._assets / name).read_bytes)
        return Response(content, headers={"cache-control": "private, max-age=86400"}, media_type=_ASSETS[name])

    async def _openapi(self, web: WebRequest) -> Response:
        document = await self._made()
        # Weak: packed or not it is the same document in other bytes.
        headers = {"cache-control": "no-cache", "etag": f'W/"{document.etag}"', "vary": "accept-encoding"}
        if negotiation.known(web.headers.get("if-none-match", ""), document.etag):
            return Response(status_code=304, headers=headers)
        request: Request = web.scope[SCOPE_KEY]
        accepted = "" if request.receipt else web.headers.get("accept-encoding", "")
        return Response(document.form(accepted, headers), headers=headers, media_type="application/json")

    async def _made(self) -> Lasting:
        """The document, made when it is first asked for."""
        if not self._document:
            methods = [method for method in self._calls.methods() if self._calls.built(method)]
            self._document = await asyncio.to_thread(_document, methods, self._version)
        return self._document


def _document(methods: Sequence[Method], version: str) -> Lasting:
    return Lasting(orjson.dumps(openapi.document(methods, version)))
