"""What programs ask an issuer has an end, however the issuer answers."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from aimass import issuer
from aimass.failures import Failure
from aimass.issuer import asked

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class Dripping:
    """Says something at once, and then byte after byte for as long as somebody listens."""

    def __init__(self, first: bytes, byte: bytes, pause: float) -> None:
        self.first, self.byte, self.pause = first, byte, pause
        self._over, self._threads = threading.Event(), list[threading.Thread]()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/realm"
        self._begin(self._listen)

    def _begin(self, work: Callable[[], object]) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        self._threads.append(thread)

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._begin(partial(self._drip, self._socket.accept()[0]))

    def _drip(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(self.first)
            while not self._over.wait(self.pause):
                connection.sendall(self.byte)

    def close(self) -> None:
        self._over.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(10)


@contextlib.contextmanager
def dripping(first: bytes, byte: bytes = b" ", pause: float = 0.02) -> Iterator[Dripping]:
    made = Dripping(first, byte, pause)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("first", [b"HTTP/1.1 200 O", HEAD, HEAD + b"\r\n{"], ids=["status", "headers", "body"])
def test_an_issuer_that_drips_is_left_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch, first: bytes) -> None:
    monkeypatch.setattr(issuer, "_SECONDS", 0.3)
    with (
        dripping(first, b"x" if first == HEAD else b" ") as server,
        pytest.raises(Failure, match=r"did not answer in 0\.3 s|cannot be reached: ReadError") as caught,
    ):
        asked(server.url)

    assert caught.value.code == "unavailable"


def test_an_answer_without_end_is_not_read_on() -> None:
    with (
        dripping(HEAD + b"\r\n", b" " * 100_000, 0) as server,
        pytest.raises(Failure, match="cannot be reached: ReadError"),
    ):
        asked(server.url)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b"\xff"])
def test_an_answer_that_is_no_object_is_none(content: bytes) -> None:
    with dripping(HEAD + b"Content-Length: %d\r\n\r\n" % len(content) + content, b"", 10) as server:
        assert asked(server.url) == (200, None)
