"""The issuers that people log in with: what a client needs to know before it has a token."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import orjson

from services.gateway.api.problem import NotAllowed
from services.gateway.request import Request, Response
from services.kit.errors import Unauthenticated

if TYPE_CHECKING:
    from services.gateway.issuers.table import Issuer

PATH = "/v1/login"


class Logins:
    """Answers without a key."""

    def __init__(self, issuers: "Callable[[], Mapping[str, Issuer]]") -> None:
        self._issuers = issuers

    async def handle(self, request: Request) -> Response:
        """The issuers that people log in with, by name. Raises unauthenticated if there are none."""
        if request.method not in ("GET", "HEAD"):
            raise NotAllowed(request.method, "GET, HEAD")
        found = [
            {"issuer": name, "url": one.url, "client_id": one.login.client_id, "scopes": one.login.scopes}
            for name, one in self._issuers().items()
            if one.login
        ]
        if not found:  # where nobody logs in, nothing is said to those without a key
            raise Unauthenticated("this gateway offers no login")
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        return Response(200, orjson.dumps({"issuers": found}), headers)
