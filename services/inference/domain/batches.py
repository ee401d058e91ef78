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


class _Ready(NamedTuple):
    place: int
    rows: int
    values: list[Values]
    outputs: Sequence[str]


def answer(run: Run, signature: Signature, items: Sequence[Item], now: float) -> list[Answer]:
    """An answer for each item, in their order; a failure of one is not a failure of another."""
    answers: list[Answer] = [DeadlineExceeded("the time for the request was over before it was run")] * len(items)
    groups: dict[tuple[tuple[int, ...], ...], list[_Ready]] = {}
    for place, item in enumerate(items):
        if item.deadline <= now:
            continue
        try:
            rows, values = fit(signature, item.inputs)
            ready = _Ready(place, rows, values, _wanted(signature, item.outputs))
        except Failure as failure:
            answers[place] = failure
            continue
        groups.setdefault(tuple(value.shape[1:] for value in values), []).append(ready)
    for group in groups.values():
        for place, given in _run(run, signature, group):
            answers[place] = given
    return answers


def _wanted(signature: Signature, outputs: Sequence[str]) -> Sequence[str]:
    known = [spec.name for spec in signature.outputs]
    for name in outputs:
        if name not in known:
            raise InvalidValue(f"there is no output {name[:128]}", [Violation("/outputs", "must be an output")])
    return outputs or known


def _run(run: Run, signature: Signature, group: list[_Ready]) -> list[tuple[int, Answer]]:
    together = signature.batch_invariant and len(group) > 1
    if together and all(spec.shape[:1] == (-1,) for spec in signature.inputs):
        try:
            return _together(run, signature, group)
        except Exception:  # one of them has values that the graph refuses: alone, only that one fails
            log.debug("a batch failed", exc_info=True)
    return [(ready.place, _alone(run, ready)) for ready in group]


def _alone(run: Run, ready: _Ready) -> Answer:
    try:
        results = run(ready.values, ready.outputs)
    except Exception as error:
        log.info("a graph refused its inputs: %s", str(error)[:500])
        return InvalidValue("the model cannot compute with these values")
    return [_tensor(name, values) for name, values in zip(ready.outputs, results, strict=True)]


def _together(run: Run, signature: Signature, group: list[_Ready]) -> list[tuple[int, Answer]]:
    asked = {name for ready in group for name in ready.outputs}
    names = [spec.name for spec in signature.outputs if spec.name in asked]
    rows = sum(ready.rows for ready in group)
    joined = [_join(rows, parts) for parts in zip(*(ready.values for ready in group), strict=True)]
    results = dict(zip(names, run(joined, names), strict=True))
    if any(values.shape[:1] != (rows,) for values in results.values()):
        raise ValueError("an output has other rows than the inputs")
    found: list[tuple[int, Answer]] = []
    first = 0
    for ready in group:
        last = first + ready.rows
        found.append((ready.place, [_tensor(name, _cut(results[name], first, last)) for name in ready.outputs]))
        first = last
    return found


def _join(rows: int, parts: Sequence[Values]) -> Values:
    datatype, shape = parts[0].datatype, (rows, *parts[0].shape[1:])
    if datatype == "BYTES":
        return Values(datatype, shape, [text for part in parts for text in part.data if isinstance(text, str)])
    return Values(datatype, shape, b"".join(part.data for part in parts if isinstance(part.data, bytes)))


def _cut(values: Values, first: int, last: int) -> Values:
    """Rows of an output."""
    width = len(values.data) // values.shape[0]
    return Values(values.datatype, (last - first, *values.shape[1:]), values.data[first * width : last * width])


def _tensor(name: str, values: Values) -> Tensor:
    raw = values.data if isinstance(values.data, bytes) else encode(values.data)
    return Tensor(name, values.datatype, values.shape, raw)
