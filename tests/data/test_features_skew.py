"""What is computed for training, in large batches, is what is computed in serving, for a row alone: every byte."""

import numpy as np
import pytest

from services.data.features.graph import compile_graph
from services.data.features.steps import Transform
from tests.data.graphs import in_batches
from tests.data.transforms import STEPS, columns, fitted

GRAPH = compile_graph(fitted(columns(3000, seed=6)))
ROWS = 30_000
GIVEN = columns(ROWS, seed=5)


@pytest.fixture(scope="module")
def offline() -> bytes:
    return in_batches(GRAPH, GIVEN, 8192).tobytes()


def test_each_transform_is_tried() -> None:
    assert {step.transform for step in STEPS} == set(Transform)


@pytest.mark.parametrize("size", [4097, 127])
def test_batches_of_odd_sizes_give_the_same_bytes(offline: bytes, size: int) -> None:
    assert in_batches(GRAPH, GIVEN, size).tobytes() == offline


def test_rows_alone_give_the_same_bytes(offline: bytes) -> None:
    picked = np.sort(np.random.default_rng(7).choice(ROWS, 1500, replace=False))
    alone = in_batches(GRAPH, {name: values[picked] for name, values in GIVEN.items()}, 1)

    assert alone.tobytes() == np.frombuffer(offline, np.float32).reshape(ROWS, -1)[picked].tobytes()
