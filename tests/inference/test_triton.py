"""What Triton is told of a version: how many copies, how much together, and shapes that it has no word for."""

from typing import Any

import orjson
import pytest

from services.inference.domain.engines import Released, Serving
from services.inference.domain.tensors import Signature
from services.inference.triton.configuration import ONNX, PYTHON, describe, shape_here, shape_there
from services.inference.triton.needs import Needs
from services.inference.wire import release_from_wire
from services.kit.cache import NearCache
from services.kit.config import ConfigError
from services.kit.tensors import Spec

ROWS = Spec("x", "FP32", (-1, 4))
SIGNATURE = Signature((ROWS,), (Spec("y", "BYTES", (-1,)),), batch_invariant=True)


def config(signature: Signature = SIGNATURE, serving: Serving | None = None, backend: str = PYTHON) -> Any:
    return orjson.loads(describe("a.b.c.1", Released(1, "sha256:aa", signature, serving or Serving()), backend).config)


def test_settings_of_a_version_are_those_of_its_copies_and_batches() -> None:
    written = config(serving=Serving(instances=3, max_batch_rows=50, batch_delay_us=700))

    assert written["instance_group"] == [{"kind": "KIND_CPU", "count": 3}]
    assert written["max_batch_size"] == 50
    assert written["dynamic_batching"] == {"max_queue_delay_microseconds": 700}


def test_without_settings_there_is_one_copy_and_nobody_waits() -> None:
    written = config()

    assert written["instance_group"][0]["count"] == 1
    assert written["max_batch_size"] > 0
    assert written["dynamic_batching"] == {"max_queue_delay_microseconds": 0}


def test_rows_that_depend_on_each_other_are_never_put_together() -> None:
    written = config(SIGNATURE._replace(batch_invariant=False))

    assert written["max_batch_size"] == 0
    assert "dynamic_batching" not in written


def test_an_output_without_rows_keeps_requests_apart() -> None:
    assert config(SIGNATURE._replace(outputs=(Spec("y", "FP32", (1,)),)))["max_batch_size"] == 0


def test_tensors_are_named_as_triton_names_them() -> None:
    written = config()

    assert written["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]
    assert written["output"] == [{"name": "y", "data_type": "TYPE_STRING", "dims": [1], "reshape": {"shape": []}}]


def test_another_graph_and_other_settings_are_another_version_there() -> None:
    first = Released(1, "sha256:aa", SIGNATURE)
    others = [
        first,
        first._replace(digest="sha256:bb"),
        first._replace(serving=Serving(instances=2)),
        first._replace(signature=SIGNATURE._replace(batch_invariant=False)),
    ]

    assert len({describe("a", version, PYTHON).digest for version in others}) == 4
    assert describe("a", first, ONNX).digest != describe("a", first, PYTHON).digest


def test_the_back_end_for_graphs_gets_one_thread() -> None:
    parameters = config(backend=ONNX)["parameters"]

    assert parameters["intra_op_thread_count"] == {"string_value": "1"}


@pytest.mark.parametrize(
    ("spec", "shape", "joins"),
    [
        (Spec("x", "FP32", (-1, 4)), (7, 4), True),
        (Spec("x", "FP32", (-1,)), (7,), True),
        (Spec("x", "FP32", ()), (), False),
        (Spec("x", "FP32", (2,)), (2,), False),
        (Spec("x", "FP32", (-1, 1)), (7, 1), True),
    ],
)
def test_shapes_come_back_as_they_went(spec: Spec, shape: tuple[int, ...], joins: bool) -> None:
    there = shape_there(shape, joins)

    assert len(there) > joins
    assert shape_here(spec, there) == shape


def test_a_release_says_how_a_version_wants_to_be_run() -> None:
    from aimass.v1 import releases_pb2 as pb
    from aimass.v1.models_pb2 import ServingSettings

    version = pb.ReleasedVersion(version=1, serving=ServingSettings(instances=2, max_batch_rows=9, batch_delay_us=5))
    desired = release_from_wire(pb.Release(model="late", desired=version)).desired

    assert desired
    assert desired.serving == Serving(2, 9, 5)


@pytest.mark.parametrize("url", ["triton://", "triton://host", "http://host:1", "triton://a:1,b:2", "tritons://host:1"])
def test_an_address_that_is_none_stops_the_start(url: str) -> None:
    from services.inference.engine_triton import TritonServer

    with pytest.raises(ConfigError, match="AIMASS_INFERENCE_ENGINE"):
        TritonServer(url)


async def test_an_instance_hears_what_others_need() -> None:
    class Shared(NearCache):
        near = False

    cache = Shared()
    one, two, elsewhere = Needs(cache, "t", "1"), Needs(cache, "t", "2"), Needs(cache, "u", "3")
    await one.say({"a", "b"})
    await two.say({"b", "c"})
    await elsewhere.say({"d"})
    assert await one.of_others() == {"b", "c"}

    await two.withdraw()
    assert await one.of_others() == set()


async def test_alone_in_a_process_there_are_no_others() -> None:
    cache = NearCache()
    await Needs(cache, "t", "1").say({"a"})

    assert await Needs(cache, "t", "2").of_others() == set()
    assert not Needs(cache, "t", "2").shared
