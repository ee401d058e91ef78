"""A receiver of webhooks on this machine: what a chat room or a ticket system would be."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class Sink:
    """Takes every message and keeps its headers and body."""

    def __init__(self, host: str = "127.0.0.1", called: str = "127.0.0.1") -> None:
        """`called` is the name by which the installation reaches this machine."""
        received = self.received = list[tuple[dict[str, str], bytes]]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                received.append(({key.lower(): value for key, value in self.headers.items()}, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self.address = f"{called}:{self._server.server_address[1]}"
        self.url = f"http://{self.address}/promotions"

    def __enter__(self) -> "Sink":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def first(self, seconds: float) -> tuple[dict[str, str], bytes]:
        """The first message. Raises TimeoutError when none comes."""
        end = time.monotonic() + seconds
        while not self.received:
            if time.monotonic() > end:
                raise TimeoutError("no webhook came")
            time.sleep(0.05)
        return self.received[0]
