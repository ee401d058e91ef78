"""Step 7: predictions by a stock client of the Open Inference Protocol, with the bits that training stored."""

import contextlib
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import numpy
import pyarrow as pa
import tritonclient.grpc
import tritonclient.http

from examples.flights.definitions import MODEL
from examples.flights.story import Story, expect
from examples.flights.training import stored

_ALL = 10_000  # rows of one request
_SINGLE, _CROWD, _FEW = 1_000, 5_000, 200  # rows that are sent one by one: in order, many at a time, with few flights
_AT_ONCE = 32
Array = Any


@dataclass
class Caller:
    """A stock client of one protocol, with a key that may call as often as the machine can answer.

    Each call gets headers of its own: the REST client adds to those it is given.
    """

    library: Any
    client: Any
    headers: dict[str, str]

    def infer(self, table: pa.Table, model: str = MODEL, **options: Any) -> Array:
        """The probabilities for rows of a table, in their order."""
        specs = self.client.get_model_metadata(MODEL, headers=dict(self.headers))
        inputs = tensors(self.library, _inputs(specs), table, **options)
        return self.client.infer(model, inputs, headers=dict(self.headers)).as_numpy("probability").reshape(-1)


def _inputs(metadata: Any) -> list[tuple[str, str]]:
    specs = metadata["inputs"] if isinstance(metadata, dict) else metadata.inputs
    return [(s["name"], s["datatype"]) if isinstance(s, dict) else (s.name, s.datatype) for s in specs]


def tensors(library: Any, specs: list[tuple[str, str]], table: pa.Table, **options: Any) -> list[Any]:
    """Columns as the tensors that a model takes: one row of a column to one row of its tensor."""
    return [_tensor(library, name, kind, _values(table.column(name), kind), **options) for name, kind in specs]


def rows(library: Any, specs: list[tuple[str, str]], table: pa.Table) -> Iterator[list[Any]]:
    """The tensors of each row by itself."""
    columns = [(name, kind, _values(table.column(name), kind)) for name, kind in specs]
    for row in range(len(table)):
        yield [_tensor(library, name, kind, values[row : row + 1]) for name, kind, values in columns]


def _tensor(library: Any, name: str, kind: str, values: Array, **options: Any) -> Any:
    tensor = library.InferInput(name, list(values.shape), kind)
    tensor.set_data_from_numpy(values, **options)
    return tensor


def _values(column: pa.ChunkedArray, datatype: str) -> Array:
    if datatype == "BYTES":
        return numpy.array([text or "" for text in column.to_pylist()], dtype=object).reshape(-1, 1)
    kind = tritonclient.http.triton_to_np_dtype(datatype)
    return column.to_numpy().astype(kind).reshape(-1, 1)


@contextlib.contextmanager
def callers(story: Story) -> Iterator[dict[str, Caller]]:
    """Both stock clients."""
    limit = {"rate": 100_000.0, "burst": 200_000.0}
    made = story.client.access.create_api_key(
        display_name="predictions", permissions=["models.*", "outcomes.*"], rate_limit=limit
    )
    story.facts["fast key"] = made.secret
    headers = {"authorization": f"Bearer {made.secret}"}
    doors = story.installation.doors
    ca = story.installation.ca
    over = {"ssl": True, "ssl_context_factory": lambda: ssl.create_default_context(cafile=ca)} if ca else {}
    rest = tritonclient.http.InferenceServerClient(urlsplit(doors["http"]).netloc, network_timeout=60, **over)
    rpc = tritonclient.grpc.InferenceServerClient(doors["grpc"], ssl=bool(ca), root_certificates=ca or None)
    try:
        yield {"REST": Caller(tritonclient.http, rest, headers), "gRPC": Caller(tritonclient.grpc, rpc, headers)}
    finally:
        rest.close()
        rpc.close()


def predictions(story: Story) -> None:
    """One row and ten thousand, by both protocols; every answer has the bits that training stored."""
    table = stored(story, story.facts["better"]).slice(0, _ALL)
    wanted = numpy.asarray(table.column("probability").to_numpy(), dtype=numpy.float32).reshape(-1)
    with callers(story) as by_protocol:
        for protocol, caller in by_protocol.items():
            with story.busy(f"{len(table):,} rows by {protocol}"):
                _same(caller.infer(table), wanted, f"{len(table):,} rows by {protocol}")
                _same(caller.infer(table.slice(0, 1)), wanted[:1], f"one row by {protocol}")
                _in_parts(caller, table, wanted)
        _as_json(by_protocol["REST"], table, wanted)
        story.say(
            f"{len(table):,} answers by REST and gRPC, at once and in parts of 7 to 4,096: the stored bits each time"
        )
        with story.busy("one by one"):
            _one_by_one(story, by_protocol["gRPC"], table.slice(0, _SINGLE if len(table) == _ALL else _FEW), wanted)
        with story.busy("one by one, many at a time"):
            _crowd(story, by_protocol["gRPC"], table.slice(0, _CROWD if len(table) == _ALL else _FEW), wanted)
        for text in _refusals(by_protocol["REST"], table.slice(0, 2)):
            story.say(text)
    story.say(_over_the_limit(story))
    story.facts["rows compared"] = len(table)


def _same(found: Array, wanted: Array, what: str) -> None:
    expect(found.astype(numpy.float32).tobytes() == wanted.tobytes(), f"{what}: the bits differ from the stored ones")


def _in_parts(caller: Caller, table: pa.Table, wanted: Array) -> None:
    start, size = 0, 7
    while start < len(table):
        _same(caller.infer(table.slice(start, size)), wanted[start : start + size], f"rows from {start}")
        start, size = start + size, min(size * 3, 4096)


def _as_json(caller: Caller, table: pa.Table, wanted: Array) -> None:
    """JSON has no word for a missing number: rows that miss nothing."""
    whole = numpy.ones(len(table), dtype=bool)
    for column in table.columns:
        whole &= ~numpy.asarray(column.is_null(nan_is_null=True))
    kept = table.filter(pa.array(whole)).slice(0, 500)
    found = caller.infer(kept, binary_data=False)
    _same(found, wanted[whole][: len(kept)], "JSON")


def _one_by_one(story: Story, caller: Caller, table: pa.Table, wanted: Array) -> None:
    specs = _inputs(caller.client.get_model_metadata(MODEL, headers=dict(caller.headers)))
    took, found = [], []
    for inputs in rows(caller.library, specs, table):
        began = time.perf_counter()
        answer = caller.client.infer(MODEL, inputs, headers=dict(caller.headers))
        took.append((time.perf_counter() - began) * 1000)
        found.append(answer.as_numpy("probability").reshape(-1)[0])
    _same(numpy.array(found), wanted[: len(table)], "one by one")
    story.facts["p50 ms"], story.facts["p99 ms"] = (float(numpy.percentile(took, share)) for share in (50, 99))
    latencies = f"p50 {story.facts['p50 ms']:.1f} ms, p99 {story.facts['p99 ms']:.1f} ms"
    story.say(f"{len(table):,} rows one by one by gRPC: the same bits, {latencies}")


def _crowd(story: Story, caller: Caller, table: pa.Table, wanted: Array) -> None:
    """Each row in a request of its own, many in flight: the service puts together those that wait."""
    specs = _inputs(caller.client.get_model_metadata(MODEL, headers=dict(caller.headers)))
    found, failures, room = numpy.zeros(len(table), dtype=numpy.float32), list[str](), threading.Semaphore(_AT_ONCE)

    def take(number: int, result: Any, error: Any) -> None:  # the client calls it with these names
        if error:
            failures.append(str(error))
        else:
            found[number] = result.as_numpy("probability").reshape(-1)[0]
        room.release()

    began = time.perf_counter()
    for number, inputs in enumerate(rows(caller.library, specs, table)):
        _enter(room)
        caller.client.async_infer(MODEL, inputs, partial(take, number), headers=dict(caller.headers))
    for _ in range(_AT_ONCE):
        _enter(room)
    expect(not failures, f"{len(failures)} of {len(table)} requests failed: {failures[:1]}")
    _same(found, wanted[: len(table)], "one by one, many at a time")
    rate = len(table) / (time.perf_counter() - began)
    story.say(f"{len(table):,} rows one by one, {_AT_ONCE} at a time: the same bits, {rate:,.0f} a second")


def _enter(room: threading.Semaphore) -> None:
    expect(room.acquire(timeout=60), "no answer came for a minute")


def _refusals(caller: Caller, table: pa.Table) -> Iterator[str]:
    """What a wrong request is told."""
    specs = dict(_inputs(caller.client.get_model_metadata(MODEL, headers=dict(caller.headers))))
    wrong = tritonclient.http.InferInput("hour", [2, 1], "BYTES")
    wrong.set_data_from_numpy(numpy.array([["seven"], ["eight"]], dtype=object))
    good = tensors(caller.library, list(specs.items()), table)
    without_hour = [tensor for tensor in good if tensor.name() != "hour"]
    tried = {
        "a wrong type": (MODEL, [*without_hour, wrong]),
        "a missing column": (MODEL, without_hour),
        "an unknown model": ("nobody", good),
    }
    for what, (model, inputs) in tried.items():
        try:
            caller.client.infer(model, inputs, headers=dict(caller.headers))
        except tritonclient.http.InferenceServerException as error:
            yield f"{what}: “{error.message()}”"
        else:
            expect(False, f"{what} was accepted")


def _over_the_limit(story: Story) -> str:
    """A key that may call twice, then once a second, calls three times."""
    made = story.client.access.create_api_key(display_name="slow", rate_limit={"rate": 1.0, "burst": 2.0})
    with contextlib.closing(story.installation.connection(10)) as connection:
        for _ in range(4):
            connection.request("GET", f"/v2/models/{MODEL}", headers={"Authorization": f"Bearer {made.secret}"})
            answer = connection.getresponse()
            answer.read()
            if answer.status == 429:
                break
    expect(answer.status == 429, f"a call over the limit got {answer.status}")
    named = [f"{name}: {answer.headers[name]}" for name in ("Retry-After", "RateLimit-Limit", "RateLimit-Remaining")]
    story.client.access.revoke_api_key(api_key=made.api_key.api_key)
    return f"over the limit: 429 with {', '.join(named)}"
