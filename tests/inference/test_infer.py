"""InferMany: rows together are the rows alone, and every request has an answer or a failure of its own."""

import asyncio
import time
from collections.abc import AsyncIterator

import numpy
import pytest
import pytest_asyncio

from aimass.v1 import engines_pb2 as pb
from services.inference.domain.tensors import encode
from services.kit.errors import Failure
from tests.support import models
from tests.support.house import House, house
from tests.support.tenants import Tenant, code_of, item

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROWS = numpy.random.default_rng(7).normal(size=(10_000, 4)).astype("<f4")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Every kind of graph, loaded."""
    home = tmp_path_factory.mktemp("home")
    async with house(
        home, "registry", "inference", AIMASS_INFERENCE_QUEUE="4", AIMASS_INFERENCE_THREADS="2"
    ) as running:
        acme = Tenant(running)
        graphs = {
            "late": models.logistic(),
            "words": models.texts(3),
            "table": models.lookup(),
            "loop": models.slow(100_000),
        }
        for model, data in graphs.items():
            await acme.add(model, data)
            await acme.serve(model, 1)
        yield running


@pytest.fixture
def tenant(served: House) -> Tenant:
    return Tenant(served)


def raws(results: list[pb.InferResult]) -> bytes:
    assert not [result for result in results if result.HasField("failure")]
    return b"".join(result.outputs[0].raw for result in results)


async def test_10_000_rows_are_bit_for_bit_the_rows_one_by_one(tenant: Tenant) -> None:
    whole = raws(await tenant.infer("late", 1, item(ROWS)))
    singly = b""
    for first in range(0, 10_000, 1000):
        singly += raws(await tenant.infer("late", 1, *(item(ROWS[n : n + 1]) for n in range(first, first + 1000))))
    alone = b"".join([raws(await tenant.infer("late", 1, item(ROWS[n : n + 1]))) for n in range(200)])

    assert len(whole) == 40_000
    assert singly == whole
    assert alone == whole[:800]


async def test_under_load_the_bytes_stay_the_same(tenant: Tenant) -> None:
    whole = raws(await tenant.infer("late", 1, item(ROWS[:900])))
    parts = await asyncio.gather(
        *(tenant.infer("late", 1, item(ROWS[n : n + 30]), item(ROWS[n + 30 : n + 45])) for n in range(0, 900, 45))
    )

    assert b"".join(raws(part) for part in parts) == whole


async def test_each_request_has_its_own_failure(tenant: Tenant) -> None:
    results = await tenant.infer(
        "late",
        1,
        item(ROWS[:2], request_id="a"),
        item(ROWS[:2, :3], request_id="b"),
        item(ROWS[:2], name="y", request_id="c"),
        item(ROWS[:2], request_id="d", outputs=["nothing"]),
        item(ROWS[2:4], request_id="e"),
    )

    assert [(result.request_id, result.failure.code) for result in results] == [
        ("a", ""),
        ("b", "invalid_value"),
        ("c", "invalid_value"),
        ("d", "invalid_value"),
        ("e", ""),
    ]
    assert results[1].failure_text == "the input x must have the shape [-1, 4], not [2, 3]"
    assert results[1].failure.violations[0].pointer == "/inputs/x"
    assert raws([results[0], results[4]]) == raws(await tenant.infer("late", 1, item(ROWS[:4])))


async def test_values_that_a_graph_refuses_fail_alone(tenant: Tenant) -> None:
    def index(*values: int) -> pb.InferItem:
        raw = numpy.array(values, "<i8").tobytes()
        return pb.InferItem(inputs=[pb.Tensor(name="i", datatype="INT64", shape=[len(values)], raw=raw)])

    results = await tenant.infer("table", 1, index(0, 1), index(77), index(2))

    assert [result.failure.code for result in results] == ["", "invalid_value", ""]


async def test_ten_thousand_rows_of_texts_are_quick(tenant: Tenant) -> None:
    raw = encode([f"N{n}" for n in range(10_000)])
    inputs = [pb.Tensor(name=f"s{n}", datatype="BYTES", shape=[10_000, 1], raw=raw) for n in range(3)]
    (result,) = await tenant.infer("words", 1, pb.InferItem(inputs=inputs))

    assert [tensor.raw == raw for tensor in result.outputs] == [True] * 3


async def test_a_long_call_does_not_hold_up_the_loop(tenant: Tenant) -> None:
    call = asyncio.ensure_future(tenant.infer("loop", 1, item([[1]])))
    longest, last = 0.0, time.perf_counter()
    while not call.done():
        await asyncio.sleep(0)
        longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
    (result,) = call.result()

    assert result.outputs[0].raw == item([[1]]).inputs[0].raw
    assert longest < 0.1


async def test_a_request_whose_time_is_over_when_its_turn_comes_is_not_run(tenant: Tenant) -> None:
    before = [asyncio.ensure_future(tenant.infer("loop", 1, item([[1]]))) for _ in range(2)]
    await asyncio.sleep(0.01)
    (result,) = await tenant.infer("loop", 1, item([[1]], deadline_ms=1))
    await asyncio.gather(*before)

    assert result.failure.code == "deadline_exceeded"


async def test_too_many_calls_are_refused_at_once(tenant: Tenant) -> None:
    calls = [asyncio.ensure_future(code_of(tenant.infer("loop", 1, item([[1]])))) for _ in range(30)]
    codes = await asyncio.gather(*calls)

    assert set(codes) == {"ok", "overloaded"}
    assert codes[0] == "ok"


async def test_a_caller_that_gives_up_leaves_nothing_in_flight(tenant: Tenant) -> None:
    stub = tenant.engines()
    request = pb.InferManyRequest(model="loop", version=1, items=[item([[1]])])
    with pytest.raises(Failure):
        await stub.InferMany(request, timeout=0.01)

    async with asyncio.timeout(5):
        while [e for e in (await stub.ListEngines(pb.ListEnginesRequest())).engines if e.in_flight]:
            await asyncio.sleep(0.01)


async def test_no_requests_have_no_answers(tenant: Tenant) -> None:
    assert await tenant.infer("late", 1) == []


async def test_a_permission_is_needed(tenant: Tenant) -> None:
    call = tenant.engines("models.get").InferMany(pb.InferManyRequest(model="late", version=1))

    assert await code_of(call) == "forbidden"


async def joined(
    tenant: Tenant, model: str, rows: list[int], *inputs: pb.Tensor, **fields: object
) -> pb.InferManyResponse:
    left = fields.pop("left", [5000] * len(rows))
    table = pb.InferJoined(rows=rows, deadlines_ms=left, inputs=inputs, **fields)  # type: ignore[arg-type]
    request = pb.InferManyRequest(model=model, version=1, joined=table)
    reply: pb.InferManyResponse = await tenant.engines().InferMany(request)
    return reply


def tensor(values: numpy.ndarray, name: str, datatype: str) -> pb.Tensor:
    return pb.Tensor(name=name, datatype=datatype, shape=values.shape, raw=values.tobytes())


async def test_joined_requests_give_the_bytes_of_the_requests(tenant: Tenant) -> None:
    reply = await joined(tenant, "late", [1, 2, 4], tensor(ROWS[:7], "x", "FP32"))

    assert not reply.results
    assert [(t.name, list(t.shape)) for t in reply.joined] == [("probability", [7, 1])]
    assert reply.joined[0].raw == raws(await tenant.infer("late", 1, item(ROWS[:7])))


async def test_of_joined_requests_the_one_that_is_refused_fails_alone(tenant: Tenant) -> None:
    reply = await joined(tenant, "table", [1, 1, 2], tensor(numpy.array([1, 77, 2, 3], "<i8"), "i", "INT64"))

    assert not reply.joined
    assert [result.failure.code for result in reply.results] == ["", "invalid_value", ""]
    assert reply.results[2].outputs[0].raw == numpy.array([0.5, 0.75], "<f4").tobytes()


async def test_of_joined_requests_the_one_that_comes_too_late_fails_alone(tenant: Tenant) -> None:
    reply = await joined(tenant, "late", [1, 1], tensor(ROWS[:2], "x", "FP32"), left=[-5, 5000])

    assert [result.failure.code for result in reply.results] == ["deadline_exceeded", ""]


@pytest.mark.parametrize(
    ("rows", "left"),
    [([2, 2], [9, 9]), ([1, 1], [9]), ([0, 3], [9, 9]), ([], [])],
    ids=["more", "no time", "none", "empty"],
)
async def test_joined_requests_that_are_not_their_rows_are_refused(
    tenant: Tenant, rows: list[int], left: list[int]
) -> None:
    with pytest.raises(Failure) as caught:
        await joined(tenant, "late", rows, tensor(ROWS[:3], "x", "FP32"), left=[n * 1000 for n in left])

    assert caught.value.code.text == "invalid_value"
