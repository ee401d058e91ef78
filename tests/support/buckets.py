"""A server of one S3 bucket on the loopback, which can be told to misbehave. The far tests have a real one."""

import hashlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

ACCESS, SECRET = "reader-key", "secret-of-the-reader"
Answer = Callable[["Handler"], bool]  # True when it has answered


class Numbered:
    """The bytes of an object that is too large to have: lines of 16 bytes, each with its number."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        begin, end = part.start, min(part.stop, self._size)
        data = b"".join(b"%015d\n" % number for number in range(begin // 16, -(-end // 16)))
        return data[begin % 16 :][: end - begin]

    @property
    def digest(self) -> str:
        """Stands for its content."""
        return f"{self._size:032x}"


class Bucket:
    """The objects of the bucket `shop`, and what was asked for."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}  # bytes, or what stands for them
        self.asked: list[str] = []
        self.authorizations: list[str] = []
        # What the next requests get, each once, in place of an answer.
        self.faults: list[Answer] = []
        self.page, self.sizes = 1000, dict[str, int]()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.bucket = self  # type: ignore[attr-defined]
        self.port = self._server.server_port
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Bucket":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    def files(self, pattern: str, kind: str = "CSV", **more: Any) -> dict[str, Any]:
        """The description of a source of its objects."""
        keys = {"endpoint": self.endpoint, "access_key": ACCESS, "secret": SECRET}
        return {"files": {"pattern": f"s3://shop/{pattern}", "format": f"FILE_FORMAT_{kind}", **keys, **more}}

    def gets(self) -> list[str]:
        """The objects that were asked for since the last look."""
        found = [path.removeprefix("/shop/") for path in self.asked if "?" not in path]
        self.asked.clear()
        return found


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    @property
    def bucket(self) -> Bucket:
        return self.server.bucket  # type: ignore[attr-defined,no-any-return]

    def do_GET(self) -> None:
        bucket = self.bucket
        bucket.asked.append(self.path)
        bucket.authorizations.append(self.headers.get("authorization", ""))
        if bucket.faults and bucket.faults.pop(0)(self):
            return
        parts = urlsplit(self.path)
        if parts.path == "/shop":
            self.reply(200, self._list({name: one[0] for name, one in parse_qs(parts.query).items()}))
        elif parts.path.startswith("/shop/"):
            self._object(unquote(parts.path.removeprefix("/shop/")))
        else:
            self.reply(404, b"<Error><Code>NoSuchBucket</Code></Error>")

    def _list(self, asked: dict[str, str]) -> bytes:
        bucket, prefix = self.bucket, asked.get("prefix", "")
        names = sorted(name for name in bucket.objects if name.startswith(prefix))
        if "delimiter" in asked:
            names = [name for name in names if "/" not in name[len(prefix) :]]
        begin, most = int(asked.get("continuation-token", 0)), min(bucket.page, int(asked["max-keys"]))
        more = begin + most < len(names)
        return b"<ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>%s%s</ListBucketResult>" % (
            b"<EncodingType>url</EncodingType><IsTruncated>%s</IsTruncated>" % (b"true" if more else b"false")
            + (b"<NextContinuationToken>%d</NextContinuationToken>" % (begin + most) if more else b""),
            b"".join(self._listed(name) for name in names[begin : begin + most]),
        )

    def _listed(self, name: str) -> bytes:
        data = self.bucket.objects[name]
        size, mark = self.bucket.sizes.get(name, len(data)), _mark(data)
        said = f"<Key>{quote(name)}</Key><Size>{size}</Size><ETag>&quot;{mark}&quot;</ETag>"
        return f"<Contents>{said}<LastModified>2026-01-01T00:00:00Z</LastModified></Contents>".encode()

    def _object(self, name: str) -> None:
        data = self.bucket.objects.get(name)
        begin, _, end = self.headers["range"].removeprefix("bytes=").partition("-")
        if data is None:
            self.reply(404, b"<Error><Code>NoSuchKey</Code></Error>")
        elif self.headers.get("if-match") not in (None, f'"{_mark(data)}"'):
            self.reply(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        elif int(begin) >= len(data):
            self.reply(416, b"<Error><Code>InvalidRange</Code></Error>")
        else:
            self.reply(206, data[int(begin) : int(end) + 1])

    def reply(self, status: int, body: bytes, size: int | None = None) -> None:
        """An answer; it may lie about its size."""
        self.send_response(status)
        self.send_header("content-length", str(len(body) if size is None else size))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def _mark(data: bytes | Numbered) -> str:
    return data.digest if isinstance(data, Numbered) else hashlib.md5(data).hexdigest()


def well(handler: Handler) -> bool:
    """No fault."""
    return False


def busy(handler: Handler) -> bool:
    """Asks to come later."""
    handler.reply(503, b"<Error><Code>SlowDown</Code></Error>")
    return True


def reset(handler: Handler) -> bool:
    """Ends the connection without a word."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True
    return True


def cut(handler: Handler) -> bool:
    """Promises more than it sends."""
    handler.reply(206, b"1,", size=1000)
    handler.close_connection = True
    return True


def endless(handler: Handler) -> bool:
    """Sends ten GiB, or as much as somebody takes."""
    handler.send_response(200)
    handler.send_header("content-length", str(10 * 2**30))
    handler.end_headers()
    try:
        for _ in range(10 * 2**10):
            handler.wfile.write(bytes(2**20))
    except OSError:
        handler.close_connection = True
    return True


def late(seconds: float) -> Answer:
    """Answers after a while."""

    def wait(handler: Handler) -> bool:
        time.sleep(seconds)
        return False

    return wait


def said(status: int, body: bytes) -> Answer:
    """Answers so."""

    def answer(handler: Handler) -> bool:
        handler.reply(status, body)
        return True

    return answer
