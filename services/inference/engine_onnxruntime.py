"""Runs models with ONNX Runtime, one thread per call: the same row gives the same bytes however many are beside it."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from services.inference.domain.tensors import Signature, Values
from services.kit import graphs, machine
from services.kit.errors import InvalidValue

log = logging.getLogger(__name__)
_WARM = (1, 64, 64)  # rows of the calls before the first one that counts; the last one is timed


class OnnxRuntimeEngine:
    """A session."""

    def __init__(self, session: Any, signature: Signature, seconds: float) -> None:
        import numpy

        self.signature, self._session, self.seconds = signature, session, seconds
        self._names = [spec.name for spec in signature.inputs]
        self._datatypes = {spec.name: spec.datatype for spec in signature.outputs}
        self._dtypes = {name: numpy.dtype(kind).newbyteorder("<") for name, kind in graphs.NUMPY.items()}
        self._frombuffer, self._array = numpy.frombuffer, numpy.array

    def run(self, inputs: Sequence[Values], outputs: Sequence[str]) -> list[Values]:
        feeds = {name: self._feed(values) for name, values in zip(self._names, inputs, strict=True)}
        results = self._session.run(outputs, feeds)
        return [self._values(name, result) for name, result in zip(outputs, results, strict=True)]

    def _feed(self, values: Values) -> Any:
        if isinstance(values.data, bytes):
            return self._frombuffer(values.data, self._dtypes[values.datatype]).reshape(values.shape)
        return self._array(values.data, dtype=object).reshape(values.shape)

    def _values(self, name: str, result: Any) -> Values:
        data = result.ravel().tolist() if result.dtype == object else result.tobytes()
        return Values(self._datatypes[name], result.shape, data)


class OnnxRuntimeLoader:
    """Loads graphs that keep the rules of `kit.graphs`."""

    def load(self, data: bytes, signature: Signature) -> OnnxRuntimeEngine:
        session = graphs.open_session(data)
        inputs, outputs = graphs.signature(session)
        if {*map(tuple, inputs)} != {*map(tuple, signature.inputs)} or {*map(tuple, outputs)} != {
            *map(tuple, signature.outputs)
        }:
            raise InvalidValue("the graph does not take and give what its signature says")
        if signature.batch_invariant and signature.checked_on != machine.checked_on():
            invariant = graphs.batch_invariant(session, inputs)
            log.warning("checked again on %s, batch-invariant: %s", machine.checked_on(), invariant)
            signature = signature._replace(batch_invariant=invariant, checked_on=machine.checked_on())
        return OnnxRuntimeEngine(session, signature, _warm_up(session, inputs))


def _warm_up(session: Any, inputs: tuple[graphs.Spec, ...]) -> float:
    seconds = 0.0
    for count in _WARM:
        values = graphs.rows(inputs, count, most=2)
        started = time.perf_counter()
        try:
            session.run(None, values)
        except Exception as error:  # the classes of ONNX Runtime's errors have no common base of their own
            raise InvalidValue(f"the graph does not run: {' '.join(str(error).split())[:300]}") from None
        seconds = time.perf_counter() - started
    return seconds
