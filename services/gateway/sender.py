"""Sends answers over HTTP."""

from collections.abc import Callable
from typing import Any

from services.gateway.request import Request, Response


class Sender:
    """Sends answers with the headers that all of them have, and remembers what was sent."""

    __slots__ = ("_draining", "_held", "_request", "_send", "size", "status")

    def __init__(self, send: Any, request: Request, draining: Callable[[], bool]) -> None:
        self._send, self._request, self._draining = send, request, draining
        self.status = self.size = 0
        self._held: Any = None  # the beginning of an answer that needs its end for a receipt

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *self._own()]
            self.status = message["status"]
            if self._request.receipt:
                self._held = message
                return
        else:
            self.size += len(message.get("body", b""))
            if self._held:
                begun, self._held = self._held, None
                if not message.get("more_body"):  # what streams has no receipt
                    begun["headers"] += await self._receipt(self.status, begun["headers"], message.get("body", b""))
                await self._send(begun)
        await self._send(message)

    async def whole(self, response: Response) -> None:
        content = response.body
        self.status, self.size = response.status, len(content)
        headers = [*response.headers, (b"content-length", b"%d" % len(content)), *self._own()]
        if self._request.receipt:
            headers += await self._receipt(response.status, headers, content)
        if self._request.exchange and await self._request.exchange.answer(response.status, headers, content):
            return
        await self._send({"type": "http.response.start", "status": response.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": content})

    async def _receipt(
        self, status: int, headers: list[tuple[bytes, bytes]], content: bytes
    ) -> list[tuple[bytes, bytes]]:
        receipt = self._request.receipt
        return await receipt.headers(status, headers, content) if receipt else []

    def _own(self) -> list[tuple[bytes, bytes]]:
        request = self._request
        found = [(b"x-request-id", request.request_id.encode()), (b"x-content-type-options", b"nosniff")]
        if request.standing:
            found += request.standing.headers()
        if request.cors:
            found += request.cors
        if self._draining():
            found.append((b"connection", b"close"))
        return found
