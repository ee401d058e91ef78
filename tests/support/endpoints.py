"""A server of HTTP endpoints on the loopback, which answers as told; it misbehaves as that of `buckets` does."""

import threading
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.support import buckets

Answer = tuple[int, dict[str, str], bytes]


class Endpoints:
    """Answers to paths: bytes, or what makes an answer of the parameters and the headers."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Callable[[dict[str, str], dict[str, str]], Answer]] = {}
        # What answers to any other path, by its target.
        self.otherwise: Callable[[str, dict[str, str]], Answer] | None = None
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.faults: list[Callable[[Any], bool]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.bucket = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Endpoints":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    def files(self, path: str, kind: str = "JSON", **more: Any) -> dict[str, Any]:
        """The description of a source that polls a path."""
        return {"files": {"pattern": f"{self.url}{path}", "format": f"FILE_FORMAT_{kind}", **more}}


class _Handler(buckets.Handler):
    def do_GET(self) -> None:
        server: Any = self.bucket
        headers = {name.lower(): value for name, value in self.headers.items()}
        server.asked.append((self.path, headers))
        if server.faults and server.faults.pop(0)(self):
            return
        parts = urlsplit(self.path)
        found = server.answers.get(parts.path)
        if found is None and server.otherwise:
            target = self.path
            found = lambda _, headers: server.otherwise(target, headers)  # noqa: E731
        if found is None:
            self.reply(404, b"nothing")
            return
        status, more, body = found(dict(parse_qsl(parts.query)), headers) if callable(found) else (200, {}, found)
        self.send_response(status)
        for name, value in {**more, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
