"""Requests that are run together, and their answers taken apart again.

Rows are put together only where that cannot be seen: the version is batch-invariant, the tensors differ in rows alone.
"""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from services.inference.domain.tensors import Signature, Tensor, Values, encode, fit
from services.kit.errors import DeadlineExceeded, Failure, InvalidValue, Violation

log = logging.getLogger(__name__)


class Item(NamedTuple):
    """One caller's request. `deadline` is on the monotonic clock; `outputs` empty: all."""

    request_id: str
    deadline: float
    inputs: Sequence[Tensor]
    outputs: Sequence[str] = ()


Answer = list[Tensor] | Failure
# Values by input in the order of the signature, names of outputs -> values by output. Raises anything.
Run = Callable[[Sequence[Values], Sequence[str]], list[Values]]


class _Part(NamedTuple):
    place: int
    rows: int
    values: list[Values]
    outputs: Sequence[str]


class Batch(NamedTuple):
    """Requests whose rows run in one call of an engine: what it is given, which outputs are wanted of it."""

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


def answer(run: Run, signature: Signature, items: Sequence[Item], now: float) -> list[Answer]:
    """An answer for each item, in their order; a failure of one is not a failure of another."""
    answers, batches = plan(signature, items, now)
    for batch in batches:
        _run(run, batch, answers)
    return answers


def refused(error: Exception) -> InvalidValue:
    """What a caller is told whose values a graph refused."""
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
