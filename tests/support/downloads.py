"""A server of files on the loopback that misbehaves by path, and a source of rows that name its files."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha256
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support import buckets

COLUMNS = [
    {"name": "id", "type": "COLUMN_TYPE_INT64", "required": True},
    {"name": "photo", "type": "COLUMN_TYPE_STRING"},
]
SOURCE = {"files": {"pattern": "photos.csv", "format": "FILE_FORMAT_CSV"}}
Answer = Callable[["Handler"], object]


def digest(data: bytes) -> str:
    return f"sha256:{sha256(data).hexdigest()}"


def rule(**more: Any) -> dict[str, Any]:
    """A rule that downloads the column `photo`."""
    return {"file": {"columns": COLUMNS}, "downloads": [{"column": "photo", **more}]}


def listed(home: Path, urls: Sequence[str], first: int = 1) -> None:
    """Adds rows that name files to the source of acme."""
    path = home / "import" / "acme" / "photos.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text() if path.exists() else "id,photo\n"
    path.write_text(before + "".join(f"{number},{url}\n" for number, url in enumerate(urls, first)))


class Handler(buckets.Handler):
    """One connection."""

    def do_GET(self) -> None:
        server: Any = self.bucket
        with server.lock:
            server.asked[self.path] += 1
            server.headers.setdefault(self.path, []).append(dict(self.headers.items()))
        found = server.files.get(self.path)
        if found is None:
            self.reply(404, b"nothing")
        elif isinstance(found, bytes):
            self.reply(200, found)
        else:
            found(self)


class Files:
    """What is at its paths: bytes, or what answers."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | Answer] = {}
        self.asked, self.headers, self.lock = Counter[str](), dict[str, list[dict[str, str]]](), threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.bucket = self  # type: ignore[attr-defined]
        self.host = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Files":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str) -> str:
        return f"http://{self.host}{path}"


def said(status: int, body: bytes = b"", **headers: str) -> Answer:
    """An answer with these headers; none says how long it is unless one of them does."""

    def answer(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return answer


def chunked(handler: Handler) -> None:
    """Sends pieces for ever and says of no size."""
    handler.send_response(200)
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    try:
        for _ in range(10 * 2**10):
            handler.wfile.write(b"10000\r\n" + bytes(2**16) + b"\r\n")
    except OSError:
        handler.close_connection = True


def after(count: int, first: Answer, then: bytes | Answer) -> Answer:
    """Answers so for some times, and then otherwise."""
    left = [count]

    def answer(handler: Handler) -> None:
        left[0] -= 1
        if left[0] >= 0:
            first(handler)
        elif isinstance(then, bytes):
            handler.reply(200, then)
        else:
            then(handler)

    return answer


def in_halves(data: bytes, etag: str, changes: bytes = b"") -> Answer:
    """Breaks off in the middle, and goes on there when it is asked by the mark; or is another file by then."""
    asked = [0]

    def answer(handler: Handler) -> None:
        asked[0] += 1
        half = len(data) // 2
        if asked[0] == 1:
            said(200, data[:half], etag=etag, content_length=str(len(data)))(handler)
        elif changes:
            said(200, changes, etag='"other"', content_length=str(len(changes)))(handler)
        else:
            place = f"bytes {half}-{len(data) - 1}/{len(data)}"
            assert (handler.headers["range"], handler.headers["if-range"]) == (f"bytes={half}-", etag)
            said(206, data[half:], etag=etag, content_range=place, content_length=str(len(data) - half))(handler)

    return answer
