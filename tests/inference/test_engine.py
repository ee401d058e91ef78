"""One suite for what runs models: ONNX Runtime in this process, and a Triton server."""

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import count

import numpy
import pytest
import pytest_asyncio
from onnx import TensorProto, helper

from services.inference.domain.batches import Answer, Item
from services.inference.domain.engines import Released, Serving
from services.inference.domain.tensors import decode, encode
from services.inference.engine import Engine, Loader
from services.inference.engine_onnxruntime import OnnxRuntimeLoader
from services.inference.triton.loading import TritonLoader
from services.inference.triton.needs import Needs
from services.inference.wire import signature_from_wire
from services.kit.cache import NearCache
from services.kit.digests import digest_of
from services.kit.errors import Code, Failure, InvalidValue, Unavailable
from services.kit.tensors import Tensor
from services.kit.timestamps import uuid7
from tests.support import models
from tests.support.servers import address

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROWS = numpy.random.default_rng(7).normal(size=(3000, 4)).astype("<f4")
_numbers = count(1)


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[pytest.param("near"), *(pytest.param(name, marks=pytest.mark.far) for name in ("far", "far, by HTTP"))],
)
async def loader(request: pytest.FixtureRequest) -> AsyncIterator[Loader]:
    made: Loader = OnnxRuntimeLoader(2, 64)
    if request.param != "near":
        from services.inference.engine_triton import TritonServer

        needs = Needs(NearCache(), "triton", "i-1")
        http = address("triton_http") if "HTTP" in request.param else ""
        made = TritonLoader(TritonServer(f"triton://{address('triton')}", http=http), 64, needs)
    watching = asyncio.ensure_future(made.watch())
    yield made
    watching.cancel()
    await made.close()


def released(data: bytes, serving: Serving | None = None, **changed: object) -> Released:
    signature = signature_from_wire(models.signature(data))._replace(**changed)  # type: ignore[arg-type]
    return Released(1, digest_of(data), signature, serving or Serving())


async def load(loader: Loader, data: bytes, serving: Serving | None = None, **changed: object) -> Engine:
    async def read() -> bytes:
        return data

    name = f"acme.default.m{uuid7()[-12:]}.{next(_numbers)}"
    return await loader.load(name, released(data, serving, **changed), read)


def x(rows: numpy.ndarray, seconds: float = 30, **fields: object) -> Item:
    tensor = Tensor("x", "FP32", rows.shape, rows.tobytes())
    return Item("r", time.monotonic() + seconds, [tensor], **fields)  # type: ignore[arg-type]


def i(*indexes: int) -> Item:
    tensor = Tensor("i", "INT64", (len(indexes),), numpy.array(indexes, "<i8").tobytes())
    return Item("r", time.monotonic() + 30, [tensor])


def tensors(given: Answer) -> list[Tensor]:
    assert not isinstance(given, Failure), given
    return given


def codes(answers: list[Answer]) -> list[str]:
    return [given.code.text if isinstance(given, Failure) else "" for given in answers]


async def test_rows_give_the_bytes_that_onnx_runtime_gives(loader: Loader) -> None:
    engine, here = await load(loader, models.logistic()), await load(OnnxRuntimeLoader(), models.logistic())
    items = [x(ROWS[:1]), x(ROWS[1:8]), x(ROWS)]

    assert await engine.infer(items) == await here.infer(items)
    assert engine.signature.batch_invariant
    await engine.close()


async def test_more_rows_than_one_call_may_have_are_answered(loader: Loader) -> None:
    engine = await load(loader, models.logistic(), Serving(max_batch_rows=16))
    (given,) = await engine.infer([x(ROWS[:100])])
    parts = await engine.infer([x(ROWS[first : first + 10]) for first in range(0, 100, 10)])

    assert tensors(given)[0].raw == b"".join(tensors(part)[0].raw for part in parts)
    assert tensors(given)[0].shape == (100, 1)
    await engine.close()


async def test_each_request_has_its_own_failure(loader: Loader) -> None:
    engine = await load(loader, models.lookup())
    answers = await engine.infer([i(0, 1), i(77), i(2), i()])

    assert codes(answers) == ["", "invalid_value", "", "invalid_value"]
    assert tensors(answers[0]) == [Tensor("v", "FP32", (2,), numpy.array([0, 0.25], "<f4").tobytes())]
    assert tensors(answers[2])[0].raw == numpy.array([0.5], "<f4").tobytes()
    await engine.close()


async def test_texts_and_several_outputs_go_there_and_back(loader: Loader) -> None:
    engine = await load(loader, models.texts(3))
    texts = ["", "naïve", "x" * 1000, "a\0b"]
    inputs = [Tensor(f"s{n}", "BYTES", (4, 1), encode([f"{n}{text}" for text in texts])) for n in range(3)]
    answers = await engine.infer([Item("r", time.monotonic() + 30, inputs) for _ in range(2)])
    assert [[tensor.name for tensor in tensors(given)] for given in answers] == [["t0", "t1", "t2"]] * 2
    assert decode(tensors(answers[1])[2].raw, 4) == [f"2{text}" for text in texts]

    (some,) = await engine.infer([Item("r", time.monotonic() + 30, inputs, ("t2", "t0"))])
    assert [(tensor.name, tensor.raw) for tensor in tensors(some)] == [("t2", inputs[2].raw), ("t0", inputs[0].raw)]
    await engine.close()


KINDS = {
    "BOOL": (TensorProto.BOOL, "?"),
    "INT8": (TensorProto.INT8, "i1"),
    "INT16": (TensorProto.INT16, "<i2"),
    "INT32": (TensorProto.INT32, "<i4"),
    "INT64": (TensorProto.INT64, "<i8"),
    "UINT8": (TensorProto.UINT8, "u1"),
    "UINT16": (TensorProto.UINT16, "<u2"),
    "UINT32": (TensorProto.UINT32, "<u4"),
    "UINT64": (TensorProto.UINT64, "<u8"),
    "FP32": (TensorProto.FLOAT, "<f4"),
    "FP64": (TensorProto.DOUBLE, "<f8"),
}


async def test_every_type_of_number_goes_there_and_back(loader: Loader) -> None:
    nodes = [helper.make_node("Identity", [f"in_{kind}"], [f"out_{kind}"]) for kind in KINDS]
    taken = [models.value(f"in_{kind}", number, "rows", 2) for kind, (number, _) in KINDS.items()]
    given = [models.value(f"out_{kind}", number, "rows", 2) for kind, (number, _) in KINDS.items()]
    engine = await load(loader, models.graph(nodes, taken, given))
    inputs = [
        Tensor(f"in_{kind}", kind, (3, 2), numpy.array([[0, 1], [1, 0], [1, 1]]).astype(code).tobytes())
        for kind, (_, code) in KINDS.items()
    ]
    (answer,) = await engine.infer([Item("r", time.monotonic() + 30, inputs)])

    assert [(t.datatype, t.shape, t.raw) for t in tensors(answer)] == [(t.datatype, t.shape, t.raw) for t in inputs]
    await engine.close()


async def test_shapes_without_rows_go_there_and_back(loader: Loader) -> None:
    nodes = [helper.make_node("Add", ["a", "b"], ["c"]), helper.make_node("ReduceSum", ["b"], ["s"], keepdims=0)]
    taken = [models.value("a", models.FLOAT), models.value("b", models.FLOAT, 2)]
    data = models.graph(nodes, taken, [models.value("c", models.FLOAT, 2), models.value("s", models.FLOAT)])
    engine = await load(loader, data)
    one, two = numpy.array(1, "<f4"), numpy.array([2, 3], "<f4")
    inputs = [Tensor("a", "FP32", (), one.tobytes()), Tensor("b", "FP32", (2,), two.tobytes())]
    (answer,) = await engine.infer([Item("r", time.monotonic() + 30, inputs)])

    assert [(tensor.shape, tensor.raw) for tensor in tensors(answer)] == [
        ((2,), (one + two).tobytes()),
        ((), two.sum().tobytes()),
    ]
    await engine.close()


async def test_rows_that_depend_on_each_other_are_not_put_together(loader: Loader) -> None:
    engine = await load(loader, models.dependent())
    first, second = numpy.array([[1], [3]], "<f4"), numpy.array([[10]], "<f4")
    answers = await engine.infer([x(first), x(second)])

    assert not engine.signature.batch_invariant
    assert [tensors(given)[0].raw for given in answers] == [(first - 2).tobytes(), (second - 10).tobytes()]
    await engine.close()


async def test_a_version_that_claims_too_much_is_found_out(loader: Loader) -> None:
    engine = await load(loader, models.dependent(), batch_invariant=True, checked_on="elsewhere")
    answers = await engine.infer([x(numpy.array([[1]], "<f4")), x(numpy.array([[10]], "<f4"))])

    assert not engine.signature.batch_invariant
    assert [tensors(given)[0].raw for given in answers] == [bytes(4)] * 2
    await engine.close()


@pytest.mark.parametrize("data", [models.external(), models.custom(), b"nonsense"])
async def test_what_must_not_be_loaded_is_refused_before_it_is_opened(loader: Loader, data: bytes) -> None:
    async def read() -> bytes:
        return data

    with pytest.raises(Failure) as refused:
        await loader.load("acme.default.bad.1", released(models.logistic()), read)
    assert refused.value.code in (Code.INVALID_VALUE, Code.UNSUPPORTED_FORMAT)
    assert not refused.value.detail.startswith("Triton")


async def test_a_graph_that_does_not_load_says_why_and_nothing_of_its_place(loader: Loader) -> None:
    async def read() -> bytes:
        return models.broken()

    with pytest.raises(InvalidValue) as refused:
        await loader.load("acme.default.broken.1", released(models.logistic()), read)
    assert "NoSuchOperator" in refused.value.detail
    assert "/" not in refused.value.detail.replace("and/or", "")


async def test_a_graph_that_is_not_what_its_signature_says_is_refused(loader: Loader) -> None:
    async def read() -> bytes:
        return models.logistic(columns=5)

    with pytest.raises(InvalidValue, match="the inputs and outputs of the graph must be those of its signature"):
        await loader.load("acme.default.other.1", released(models.logistic()), read)


async def test_what_reads_the_graph_may_be_away_for_a_while(loader: Loader) -> None:
    async def read() -> bytes:
        raise Unavailable("the store is away")

    with pytest.raises(Unavailable, match="the store is away"):
        await loader.load("acme.default.away.1", released(models.logistic()), read)


async def test_time_that_is_over_is_said_for_its_request_only(loader: Loader) -> None:
    engine = await load(loader, models.logistic())

    assert codes(await engine.infer([x(ROWS[:1]), x(ROWS[:1], seconds=-1)])) == ["", "deadline_exceeded"]
    assert await engine.infer([]) == []
    await engine.close()


async def test_a_call_that_takes_too_long_ends_in_time(loader: Loader) -> None:
    engine, started = await load(loader, models.slow(400_000)), time.monotonic()
    answers = await engine.infer([x(numpy.array([[1]], "<f4"), seconds=0.1)])

    assert codes(answers) == ["deadline_exceeded"]
    assert time.monotonic() - started < 0.6
    await engine.calls.ended()
    await engine.close()


async def test_too_many_calls_are_refused_at_once(loader: Loader) -> None:
    engine = await load(loader, models.slow(5_000))

    async def ask() -> str:
        try:
            return codes(await engine.infer([x(numpy.array([[1]], "<f4"))]))[0]
        except Failure as failure:
            return failure.code.text

    assert set(await asyncio.gather(*(ask() for _ in range(80)))) == {"", "overloaded"}
    await engine.close()


async def test_callers_at_once_get_the_bytes_of_their_rows(loader: Loader) -> None:
    engine, here = (
        await load(loader, models.logistic(), Serving(instances=2)),
        await load(OnnxRuntimeLoader(), models.logistic()),
    )
    sizes = numpy.random.default_rng(1).integers(1, 40, 200)
    firsts = numpy.random.default_rng(2).integers(0, 2900, 200)

    async def ask(first: int, size: int) -> bool:
        items = [x(ROWS[first : first + size]), x(ROWS[size : size + 1])]
        return await engine.infer(items) == await here.infer(items)

    for n in range(0, 200, 40):
        found = await asyncio.gather(*(ask(*pair) for pair in zip(firsts[n : n + 40], sizes[n : n + 40], strict=True)))
        assert all(found)
    await engine.close()
