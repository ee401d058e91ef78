"""Requests as one table and apart again: each gets its own rows, and what is not alike stays apart."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.traffic.engines import Item
from services.gateway.traffic.joining import join, split
from services.kit.tensors import Tensor


def x(*rows: float, columns: int = 1, **other: Any) -> Item:
    count = len(rows) // columns
    tensor = Tensor("x", "FP32", (count, columns), struct.pack(f"<{len(rows)}f", *rows))._replace(**other)
    return Item("r", 9.0, [tensor], [], "", count)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=20), st.integers(1, 3))
def test_everybody_gets_back_the_rows_that_are_his(counts: list[int], columns: int) -> None:
    items = [x(*range(place, place + count * columns), columns=columns) for place, count in enumerate(counts)]
    table = join(items)

    assert table
    assert table.rows == counts
    assert table.inputs[0].shape == (sum(counts), columns)
    assert split(table.rows, table.inputs) == [item.inputs for item in items]


def test_several_inputs_and_outputs_keep_their_order() -> None:
    both = [Tensor("a", "INT64", (1,), bytes(8)), Tensor("b", "FP32", (1, 2), bytes(8))]
    table = join([Item("r", 1.0, both, ["p"], "", 1), Item("s", 2.0, both, ["p"], "", 1)])

    assert table
    assert (table.deadlines, table.outputs, [t.name for t in table.inputs]) == ([1.0, 2.0], ["p"], ["a", "b"])
    assert split(table.rows, table.inputs) == [both, both]


@pytest.mark.parametrize(
    "other",
    [
        x(1, 2, columns=2),
        x(1, name="y"),
        x(1, datatype="INT32"),
        x(1)._replace(outputs=["p"]),
        x(1)._replace(inputs=[]),
        x(1)._replace(inputs=[*x(1).inputs, *x(1).inputs]),
        x(1, shape=()),
        x(1, 2)._replace(rows=1),
    ],
    ids=["width", "name", "type", "outputs", "no inputs", "more inputs", "no rows", "rows of another input"],
)
def test_what_differs_in_more_than_its_rows_stays_apart(other: Item) -> None:
    assert join([x(1), other]) is None
    assert join([other, x(1)]) is None


def test_texts_and_single_requests_stay_as_they_are() -> None:
    words = x(1, datatype="BYTES", raw=b"\1\0\0\0a")

    assert join([words, words]) is None
    assert join([x(1)]) is None
