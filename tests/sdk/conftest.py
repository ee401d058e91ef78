"""A door that answers as it is told, over real sockets, and remembers what it was asked."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from aimass import Client


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Door:
    """Answers in order; the last one again and again. `None` breaks the connection."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], bytes] | None] = field(default_factory=list)
    pause: float = 0.0  # seconds before each answer

    def say(self, document: Any = None, status: int = 200, **headers: str) -> "Door":
        body = document if isinstance(document, bytes) else orjson.dumps(document)
        self.answers.append((status, {k.replace("_", "-"): v for k, v in headers.items()}, body))
        return self

    def refuse(self, status: int, code: str, detail: str = "no", **more: Any) -> "Door":
        return self.say({"title": code, "status": status, "code": code, "detail": detail, **more}, status)

    def break_off(self) -> "Door":
        self.answers.append(None)
        return self

    def next(self) -> tuple[int, dict[str, str], bytes] | None:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    door: Door

    def answer(self) -> None:
        place = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.door.asked.append(Asked(self.command, place.path, parse_qs(place.query), headers, body))
        time.sleep(self.door.pause)
        answer = self.door.next()
        if answer is None:
            self.close_connection = True
            self.connection.close()
            return
        status, headers, content = answer
        self.send_response(status)
        for key, value in {"x-request-id": "r-1", "content-length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def door() -> Iterator[Door]:
    found = Door()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"door": found}))
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def client(door: Door) -> Iterator[Client]:
    with Client(door.url, "aim_key") as found:
        yield found
