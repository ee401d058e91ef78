"""Joins requests that differ in their rows only into one table, and splits its answer again.

So the call costs once for all of them. Whether their rows may run together is for the engine to decide.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from services.kit.tensors import SIZES, Tensor


class Asking(Protocol):
    """A request, as far as it matters here."""

    @property
    def deadline(self) -> float: ...
    @property
    def inputs(self) -> Sequence[Tensor]: ...
    @property
    def outputs(self) -> Sequence[str]: ...
    @property
    def rows(self) -> int: ...


class Joined(NamedTuple):
    """Rows of several requests, one after the other. Deadlines are on the monotonic clock."""

    rows: list[int]
    deadlines: list[float]
    inputs: list[Tensor]
    outputs: Sequence[str]


def join(items: Sequence[Asking]) -> Joined | None:
    """Requests as one table; None for a single one, and for those that differ in more than their rows."""
    first = items[0]
    if len(items) < 2 or not first.inputs or not all(t.shape and t.datatype in SIZES for t in first.inputs):
        return None
    alike = [(tensor.name, tensor.datatype, tensor.shape[1:]) for tensor in first.inputs]
    parts: list[list[bytes]] = [[] for _ in alike]
    for item in items:
        if len(item.inputs) != len(alike) or list(item.outputs) != list(first.outputs):
            return None
        for (name, datatype, shape, raw), (as_name, as_type, as_shape), part in zip(
            item.inputs, alike, parts, strict=True
        ):
            if name != as_name or datatype != as_type or shape[1:] != as_shape or shape[:1] != (item.rows,):
                return None
            part.append(raw)
    rows = [item.rows for item in items]
    total = sum(rows)
    inputs = [
        Tensor(name, datatype, (total, *shape), b"".join(part))
        for (name, datatype, shape), part in zip(alike, parts, strict=True)
    ]
    return Joined(rows, [item.deadline for item in items], inputs, first.outputs)


def split(rows: Sequence[int], outputs: Sequence[Tensor]) -> list[list[Tensor]]:
    """Each request's outputs, in their order."""
    answers: list[list[Tensor]] = [[] for _ in rows]
    for name, datatype, shape, raw in outputs:
        width, rest, at = len(raw) // shape[0], shape[1:], 0
        for answer, count in zip(answers, rows, strict=True):
            end = at + count * width
            answer.append(Tensor(name, datatype, (count, *rest), raw[at:end]))
            at = end
    return answers
