"""A child process's own side: one request, progress, one result. An entry module has `main(request, child)`.

A resident child (`attend`) gets its next request when it has answered the one before.
"""

import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NoReturn, Protocol

import orjson

from services.kit.disk import on_disk
from services.kit.errors import Failure

SOCKET, FILES = "AIMASS_CHILD_SOCKET", "AIMASS_CHILD_FILES"  # variables that the launcher sets
PIPES = "pipes"  # in place of a socket's descriptor: where only standard input and output lead outside
LENGTH = struct.Struct("!I")
RAW = b"\0"  # in front of a message that is bytes; JSON begins otherwise
Json = dict[str, Any]


def frame(message: Json) -> bytes:
    """A message with its length in front."""
    body = orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)
    return LENGTH.pack(len(body)) + body


class Connection(Protocol):
    """What of a socket is needed."""

    def recv(self, size: int, /) -> bytes: ...

    def sendall(self, data: bytes, /) -> None: ...


class Pipes:
    """Standard input and output as a connection. Whatever else is printed joins the complaints."""

    def __init__(self) -> None:
        self._out = os.dup(1)
        os.dup2(2, 1)

    def recv(self, size: int, /) -> bytes:
        return os.read(0, size)

    def sendall(self, data: bytes, /) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._out, left) :]


class Child:
    """The child's side: tells progress."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()
        self._used = 0

    def progress(self, message: Json) -> None:
        """Tells the parent how far the work is."""
        self.send({"progress": message})

    def pour(self, data: bytes) -> None:
        """Gives the parent bytes, which it gets as its progress. Returns once it has room for them."""
        with self._lock:
            self._connection.sendall(LENGTH.pack(len(RAW) + len(data)) + RAW)
            self._connection.sendall(data)

    def used(self) -> int:
        """Milliseconds of processors since the last call of this, or since the start."""
        import resource

        found = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        total = int(sum(each.ru_utime + each.ru_stime for each in found) * 1000)
        before, self._used = self._used, total
        return total - before

    def send(self, message: Json) -> None:
        """One message to the parent."""
        with self._lock:
            self._connection.sendall(frame(message))


class _Lean:
    """Hides what would be imported only because it is there: PyArrow takes pandas in with the first array it makes.

    That is half of a short child, and nobody here asks for it.
    """

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is not wanted here", name=name)


def child(main: Callable[[Json, Child], Json]) -> NoReturn:
    """What a child process does: one request, one result or failure, and the end."""
    connection = _prepared()
    request = _request(connection)
    # The parent sends nothing after the request: the next byte, or its end, means that it is gone.
    threading.Thread(target=lambda: (connection.recv(1), os._exit(1)), daemon=True).start()
    _answer(main, request, Child(connection))
    sys.stderr.flush()
    os._exit(0)  # the engines' threads are not waited for


def attend(main: Callable[[Json, Child], Json]) -> NoReturn:
    """What a resident child does: requests one after another, until its parent hangs up or is gone."""
    connection, waiting = _prepared(), SimpleQueue[Json]()

    def listen() -> NoReturn:
        while True:
            waiting.put(_request(connection))  # ends the process when there is no more

    threading.Thread(target=listen, daemon=True).start()
    talk = Child(connection)
    while True:
        _answer(main, waiting.get(), talk)


def _prepared() -> Connection:
    """The connection to the parent, and the limits of this process set."""
    import resource

    files = int(os.environ[FILES])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.meta_path.insert(0, _Lean)
    named = os.environ.pop(SOCKET)
    return Pipes() if named == PIPES else socket.socket(fileno=int(named))


def _answer(main: Callable[[Json, Child], Json], request: Json, talk: Child) -> None:
    """One result or failure, with the processor time that it took since the answer before it."""
    try:
        with on_disk():
            result = main(request, talk)
        talk.send({"result": result, "cpu_milliseconds": talk.used()})
    except Failure as failure:
        talk.used()
        pairs = [(v.pointer, v.rule) for v in failure.violations]
        talk.send({"failure": {"code": failure.code.text, "detail": failure.detail, "violations": pairs}})
    except MemoryError:
        talk.send({"failure": {"code": "limit_exceeded", "detail": "the work ran out of memory", "violations": []}})


def _request(connection: Connection) -> Json:
    request: Json = orjson.loads(_exactly(connection, LENGTH.unpack(_exactly(connection, LENGTH.size))[0]))
    return request


def _exactly(connection: Connection, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            os._exit(1)
        data += piece
    return data
