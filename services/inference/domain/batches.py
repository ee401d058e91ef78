"""Batches: joins requests that run together, and splits their results again.

Rows are joined only where it does not show: the version is batch-invariant, and the tensors differ in their rows only.
"""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from services.inference.domain.tensors import Signature, Values, encode, fit
from services.kit.errors import DeadlineExceeded, Failure, InvalidValue, Violation
from services.kit.tensors import Tensor

log = logging.getLogger(__name__)


class Item(NamedTuple):
    """One caller's request. `deadline` is on the monotonic clock; `outputs` empty: all."""

    request_id: str
    deadline: float
    inputs: Sequence[Tensor]
    outputs: Sequence[str] = ()


class Joined(NamedTuple):
    """Requests that differ in their rows only: how many each has, until when, and the rows one after the other."""

    rows: Sequence[int]
    deadlines: Sequence[float]
    inputs: Sequence[Tensor]
    outputs: Sequence[str]

    def apart(self) -> list[Item]:
        """The requests one by one. Raises invalid_value for tensors that are not their rows."""
        total, items, first = sum(self.rows), list[Item](), 0
        if not all(t.shape[:1] == (total,) and total and not len(t.raw) % total for t in self.inputs):
            raise InvalidValue("the rows are not those of the requests")
        for count, deadline in zip(self.rows, self.deadlines, strict=True):
            inputs = [_slice(tensor, first, first + count, total) for tensor in self.inputs]
            items.append(Item("", deadline, inputs, self.outputs))
            first += count
        return items


Answer = list[Tensor] | Failure
# Values by input in the order of the signature, names of outputs -> values by output. Raises anything.
Run = Callable[[Sequence[Values], Sequence[str]], list[Values]]


class _Part(NamedTuple):
    place: int
    rows: int
    values: list[Values]
    outputs: Sequence[str]


class Batch(NamedTuple):
    """Requests whose rows run in one call of an engine: its inputs and the wanted outputs."""

    inputs: Sequence[Values]
    outputs: Sequence[str]
    rows: int
    parts: Sequence[_Part]

    def take(self, results: Sequence[Values], answers: list[Answer]) -> None:
        """Puts each request's part of the results in its place. Raises ValueError for results with other rows."""
        if len(self.parts) == 1:
            answers[self.parts[0].place] = _tensors(self.outputs, results)
            return
        if any(values.shape[:1] != (self.rows,) for values in results):
            raise ValueError("an output has other rows than the inputs")
        found, first = dict(zip(self.outputs, results, strict=True)), 0
        for part in self.parts:
            last = first + part.rows
            answers[part.place] = _tensors(part.outputs, [cut(found[name], first, last) for name in part.outputs])
            first = last

    def refuse(self, failure: Failure, answers: list[Answer]) -> None:
        """Puts a failure in the place of each request."""
        for part in self.parts:
            answers[part.place] = failure

    def alone(self) -> list["Batch"]:
        """Its requests one by one."""
        return [_alone(part) for part in self.parts]


def _slice(tensor: Tensor, first: int, last: int, rows: int) -> Tensor:
    width = len(tensor.raw) // rows
    shape = (last - first, *tensor.shape[1:])
    return Tensor(tensor.name, tensor.datatype, shape, tensor.raw[first * width : last * width])


def plan(signature: Signature, items: Sequence[Item], now: float) -> tuple[list[Answer], list[Batch]]:
    """What is to be run, and the answers in the order of the items: those that are known, and places for the others."""
    answers: list[Answer] = [DeadlineExceeded("the time for the request was over before it was run")] * len(items)
    groups: dict[tuple[tuple[int, ...], ...], list[_Part]] = {}
    for place, item in enumerate(items):
        if item.deadline <= now:
            continue
        try:
            rows, values = fit(signature, item.inputs)
            part = _Part(place, rows, values, _wanted(signature, item.outputs))
        except Failure as failure:
            answers[place] = failure
            continue
        groups.setdefault(tuple(value.shape[1:] for value in values), []).append(part)
    batches: list[Batch] = []
    for group in groups.values():
        if len(group) > 1 and joinable(signature):
            batches.append(_together(signature, group))
        else:
            batches += [_alone(part) for part in group]
    return answers, batches


def joinable(signature: Signature) -> bool:
    """Whether rows of several requests may run together."""
    return signature.batch_invariant and all(spec.shape[:1] == (-1,) for spec in signature.inputs)


def whole(signature: Signature, joined: Joined, now: float) -> Item | None:
    """What was joined as one request, if it may run and be taken apart as such."""
    wanted = [spec for spec in signature.outputs if not joined.outputs or spec.name in joined.outputs]
    rows = all(spec.shape[:1] == (-1,) and spec.datatype != "BYTES" for spec in wanted)
    if not (rows and joinable(signature) and joined.deadlines and min(joined.deadlines) > now):
        return None
    return Item("", max(joined.deadlines), joined.inputs, joined.outputs)


def answer(run: Run, signature: Signature, items: Sequence[Item], now: float) -> list[Answer]:
    """An answer for each item, in their order; a failure of one is not a failure of another."""
    answers, batches = plan(signature, items, now)
    for batch in batches:
        _run(run, batch, answers)
    return answers


def refused(error: Exception) -> InvalidValue:
    """The failure for values that a graph refused."""
    log.info("a graph refused its inputs: %s", str(error)[:500])
    return InvalidValue("the model cannot compute with these values")


def _wanted(signature: Signature, outputs: Sequence[str]) -> Sequence[str]:
    known = [spec.name for spec in signature.outputs]
    for name in outputs:
        if name not in known:
            raise InvalidValue(f"there is no output {name[:128]}", [Violation("/outputs", "must be an output")])
    return outputs or known


def _run(run: Run, batch: Batch, answers: list[Answer]) -> None:
    try:
        batch.take(run(batch.inputs, batch.outputs), answers)
    except Exception as error:
        if len(batch.parts) == 1:
            batch.refuse(refused(error), answers)
            return
        log.debug("a batch failed", exc_info=True)
        for single in batch.alone():  # one of them has values that the graph refuses: alone, only that one fails
            _run(run, single, answers)


def _alone(part: _Part) -> Batch:
    return Batch(part.values, part.outputs, part.rows, (part,))


def _together(signature: Signature, parts: Sequence[_Part]) -> Batch:
    asked = {name for part in parts for name in part.outputs}
    names = [spec.name for spec in signature.outputs if spec.name in asked]
    inputs = [join(values) for values in zip(*(part.values for part in parts), strict=True)]
    return Batch(inputs, names, sum(part.rows for part in parts), parts)


def join(parts: Sequence[Values]) -> Values:
    """Rows one after the other."""
    datatype, shape = parts[0].datatype, (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
    if datatype == "BYTES":
        return Values(datatype, shape, [text for part in parts for text in part.data if isinstance(text, str)])
    return Values(datatype, shape, b"".join(part.data for part in parts if isinstance(part.data, bytes)))


def cut(values: Values, first: int, last: int) -> Values:
    """Some of the rows."""
    width = len(values.data) // values.shape[0]
    return Values(values.datatype, (last - first, *values.shape[1:]), values.data[first * width : last * width])


def _tensors(names: Sequence[str], results: Sequence[Values]) -> list[Tensor]:
    return [_tensor(name, values) for name, values in zip(names, results, strict=True)]


def _tensor(name: str, values: Values) -> Tensor:
    raw = values.data if isinstance(values.data, bytes) else encode(values.data)
    return Tensor(name, values.datatype, values.shape, raw)
