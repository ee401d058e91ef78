"""Runs models with ONNX Runtime, one thread per call: the same row gives the same bytes however many are beside it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from services.inference.domain import batches
from services.inference.domain.batches import Answer, Item
from services.inference.domain.engines import Released
from services.inference.domain.tensors import Signature, Values
from services.inference.engine import Calls
from services.inference.threads import Threads
from services.kit import graphs, machine
from services.kit.errors import InvalidValue
from services.kit.tensors import Spec

log = logging.getLogger(__name__)
WARM = (1, 64, 64)  # rows of the calls before the first one that counts; the last one is timed
# What is answered on the event loop: handing a call to a thread takes longer than such a call itself.
_QUICK_SECONDS, _QUICK_ROWS, _QUICK_BYTES = 0.0005, 64, 64 * 1024


class OnnxRuntimeEngine:
    """A session. `seconds` that a call with 64 rows takes here."""

    up = True

    def __init__(self, session: Any, signature: Signature, seconds: float, threads: Threads) -> None:
        import numpy

        self.signature, self.calls = signature, Calls()
        self._session, self._threads, self._quick = session, threads, seconds <= _QUICK_SECONDS
        self._names = [spec.name for spec in signature.inputs]
        self._datatypes = {spec.name: spec.datatype for spec in signature.outputs}
        self._dtypes = {name: numpy.dtype(kind).newbyteorder("<") for name, kind in graphs.NUMPY.items()}
        self._frombuffer, self._array = numpy.frombuffer, numpy.array

    async def infer(self, items: Sequence[Item]) -> list[Answer]:
        """Small calls of quick graphs are answered on the event loop."""
        self._threads.check()
        if not items or (self._quick and _small(items)):
            return self._answer(items)
        return await self._threads.answer(self.calls, self._answer, items)

    async def close(self) -> None:
        """The session goes with its last reference."""

    def _answer(self, items: Sequence[Item]) -> list[Answer]:
        return batches.answer(self.run, self.signature, items, time.monotonic())

    def run(self, inputs: Sequence[Values], outputs: Sequence[str]) -> list[Values]:
        """Values by input in the order of the signature -> those of the named outputs. Blocks; may be called at once by
        several threads. Raises anything when the graph refuses the values."""
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

    up = True

    def __init__(self, threads: int = 1, queue: int = 256) -> None:
        """Answers `threads` calls beside the event loop at a time, lets `queue` wait."""
        self._threads = Threads(threads, queue)
        # Loading waits behind loading, never behind or in front of calls.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="load")

    async def load(self, name: str, released: Released, read: Callable[[], Awaitable[bytes]]) -> OnnxRuntimeEngine:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self.open, await read(), released.signature)

    async def changed(self) -> Sequence[OnnxRuntimeEngine]:
        """What runs in this process is there as long as it is."""
        await asyncio.Event().wait()
        return ()

    async def watch(self) -> None:
        """Nothing here comes and goes by itself."""

    async def close(self) -> None:
        self._threads.close()
        self._thread.shutdown(cancel_futures=True)

    def open(self, data: bytes, signature: Signature) -> OnnxRuntimeEngine:
        """An engine for a graph. Blocks. Raises Failure with the reason when it cannot serve."""
        session = graphs.open_session(data)
        inputs, outputs = graphs.signature(session)
        if {*map(tuple, inputs)} != {*map(tuple, signature.inputs)} or {*map(tuple, outputs)} != {
            *map(tuple, signature.outputs)
        }:
            raise InvalidValue("the inputs and outputs of the graph must be those of its signature")
        if signature.batch_invariant and signature.checked_on != machine.checked_on():
            invariant = graphs.batch_invariant(session, inputs)
            log.warning("checked again on %s, batch-invariant: %s", machine.checked_on(), invariant)
            signature = signature._replace(batch_invariant=invariant, checked_on=machine.checked_on())
        return OnnxRuntimeEngine(session, signature, _warm_up(session, inputs), self._threads)


def _small(items: Sequence[Item]) -> bool:
    rows = size = 0
    for item in items:
        for tensor in item.inputs:
            size += len(tensor.raw)
        rows += max((tensor.shape[0] for tensor in item.inputs if tensor.shape), default=1)
    return rows <= _QUICK_ROWS and size <= _QUICK_BYTES


def _warm_up(session: Any, inputs: tuple[Spec, ...]) -> float:
    seconds = 0.0
    for count in WARM:
        values = graphs.rows(inputs, count, most=2)
        started = time.perf_counter()
        try:
            session.run(None, values)
        except Exception as error:  # the classes of ONNX Runtime's errors have no common base of their own
            raise InvalidValue(f"the graph does not run: {' '.join(str(error).split())[:300]}") from None
        seconds = time.perf_counter() - started
    return seconds
