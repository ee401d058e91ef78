"""Calls of versions by Triton's HTTP door: what does not go well is asked over gRPC, which knows what it means."""

import asyncio
import time
from collections.abc import AsyncIterator

import numpy
import pytest

from services.inference.domain.batches import Item
from services.inference.domain.engines import Released
from services.inference.engine_triton import TritonServer
from services.inference.triton.loading import TritonLoader
from services.inference.triton.needs import Needs
from services.inference.triton.version import TritonVersion
from services.inference.wire import signature_from_wire
from services.kit.cache import NearCache
from services.kit.config import ConfigError
from services.kit.digests import digest_of
from services.kit.errors import Failure
from services.kit.tensors import Tensor
from tests.support import models
from tests.support.tritons import Triton

JSON = b'{"outputs":[{"name":"v","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}'
GOOD = b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n%b" % (
    len(JSON),
    len(JSON) + 4,
    JSON + numpy.float32(9).tobytes(),
)


class Door:
    """Reads requests and answers each with what is next, in pieces of a size; None: never."""

    def __init__(self) -> None:
        self.answers: list[bytes | None] = []
        self.requests: list[bytes] = []
        self.connections = 0
        self.piece = 65_536
        self.address = ""
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"\r\ncontent-length:")[2].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0)
                if answer is None:
                    await reader.read()
                    break
                for first in range(0, len(answer), self.piece):
                    writer.write(answer[first : first + self.piece])
                    await writer.drain()
                    await asyncio.sleep(0)
                if b"Content-Length" not in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def close(self) -> None:
        if self._server:
            self._server.close()


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    made = Door()
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def triton() -> AsyncIterator[Triton]:
    made = await Triton().start()
    yield made
    await made.stop()


@pytest.fixture
async def version(triton: Triton, door: Door) -> AsyncIterator[TritonVersion]:
    server = TritonServer(f"triton://{triton.address}", http=door.address)
    loader = TritonLoader(server, 256, Needs(NearCache(), "triton", "i-1"))
    data = models.lookup()

    async def read() -> bytes:
        return data

    released = Released(1, digest_of(data), signature_from_wire(models.signature(data)))
    # What is asked of a version before it is ready is asked over gRPC: nothing is here to answer it.
    door.answers = [b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"] * 20
    made = await loader.load("acme.default.late.1", released, read)
    door.answers, door.requests = [], []
    triton.asked.clear()
    yield made
    await loader.close()


async def ask(version: TritonVersion, *indexes: int, seconds: float = 5) -> float | str:
    tensor = Tensor("i", "INT64", (len(indexes),), numpy.array(indexes, "<i8").tobytes())
    (given,) = await version.infer([Item("r", time.monotonic() + seconds, [tensor])])
    return given.code.text if isinstance(given, Failure) else float(numpy.frombuffer(given[0].raw, "<f4")[0])


async def test_a_call_is_answered_there_and_costs_grpc_nothing(
    version: TritonVersion, door: Door, triton: Triton
) -> None:
    door.answers = [GOOD, GOOD]

    assert [await ask(version, 1), await ask(version, 1)] == [9.0, 9.0]
    assert triton.asked == []
    assert door.requests[0].startswith(b"POST /v2/models/acme.default.late.1/infer HTTP/1.1\r\n")
    assert door.requests[0].endswith(numpy.int64(1).tobytes())


async def test_an_answer_in_pieces_is_read_whole(version: TritonVersion, door: Door) -> None:
    door.answers, door.piece = [GOOD], 7

    assert await ask(version, 1) == 9.0


async def test_calls_one_after_the_other_share_a_connection(version: TritonVersion, door: Door) -> None:
    before, door.answers = door.connections, [GOOD] * 5
    for _ in range(5):
        await ask(version, 1)

    assert door.connections - before <= 1


@pytest.mark.parametrize(
    "odd",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        GOOD.replace(b'size":4', b'size":5'),
        GOOD.replace(b'"v"', b'"w"'),
        GOOD.replace(b"Inference-Header-", b"Inference-Reader-"),
        GOOD.replace(b"Length: 9", b"Length: x"),
        b"",
    ],
    ids=["a status", "chunks", "a wrong size", "another output", "no parts", "no number", "nothing"],
)
async def test_what_does_not_go_well_is_asked_over_grpc(
    version: TritonVersion, door: Door, triton: Triton, odd: bytes
) -> None:
    door.answers = [odd]

    assert await ask(version, 1) == 0.25
    assert triton.asked == ["ModelInfer"]


async def test_what_a_graph_refuses_is_said_in_the_same_words(version: TritonVersion, door: Door) -> None:
    door.answers = [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}"]

    assert await ask(version, 77) == "invalid_value"


async def test_a_door_that_is_away_is_left_alone_for_a_while(
    version: TritonVersion, door: Door, triton: Triton
) -> None:
    door.answers = [b""]
    await ask(version, 1)
    await door.close()
    await asyncio.sleep(0.05)

    assert [await ask(version, 1) for _ in range(3)] == [0.25] * 3
    assert triton.asked == ["ModelInfer"] * 4


async def test_a_door_that_says_nothing_takes_no_longer_than_there_is_time(version: TritonVersion, door: Door) -> None:
    door.answers = [None]
    began = time.monotonic()

    assert await ask(version, 1, seconds=0.2) == "deadline_exceeded"
    assert time.monotonic() - began < 1.0


async def test_a_caller_who_leaves_leaves_no_answer_for_the_next_one(version: TritonVersion, door: Door) -> None:
    door.answers = [None, GOOD]
    first = asyncio.ensure_future(ask(version, 1))
    while not door.requests:
        await asyncio.sleep(0.01)
    first.cancel()

    assert await ask(version, 1) == 9.0


@pytest.mark.parametrize(
    ("url", "http"), [("triton://h:1", "h"), ("triton://h:1", "http://h:2"), ("tritons://h:1", "h:2")]
)
def test_a_door_that_is_none_stops_the_start(url: str, http: str) -> None:
    from services.kit.tls import Credentials

    shown = object.__new__(Credentials) if url.startswith("tritons") else None
    with pytest.raises(ConfigError, match="AIMASS_INFERENCE_ENGINE_HTTP"):
        TritonServer(url, shown, http)
