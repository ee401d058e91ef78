"""A light load through the gateway, as the client library makes it: writes that must stay, reads, predictions."""

import threading
import time
from collections import Counter
from types import TracebackType
from uuid import uuid4

from aimass import Failure
from aimass.predictions import Prediction
from tests.support.containers import Stack

_PAUSE = 0.05  # seconds between two calls of a thread
# A row for the model that the main job leaves.
_ROW = {"carrier": ["AA"], "origin": ["JFK"], "hour": [8.0], "distance": [500.0], "temp": [60.0], "seats": [150.0]}


class Load:
    """Models are made, read and asked until the block ends; then what was acknowledged is looked for."""

    def __init__(self, stack: Stack) -> None:
        self.failures: list[str] = []
        self._stack, self._made, self._reads = stack, list[str](), 0
        self._answers = Counter[tuple[int, bytes]]()
        self._stop, self._slowest = threading.Event(), 0.0
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._read, self._ask)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(90)

    def _write(self) -> None:
        with self._stack.client() as client:
            while not self._stop.wait(_PAUSE):
                name = f"m{uuid4().hex[:20]}"
                if self._try("write", lambda name=name: client.models.create_model(model=name)):
                    self._made.append(name)

    def _read(self) -> None:
        with self._stack.client() as client:
            while not self._stop.wait(_PAUSE):
                self._reads += self._try("read", lambda: client.models.list_models(page_size=1))

    def _ask(self) -> None:
        with self._stack.client() as client:
            while not self._stop.wait(_PAUSE):
                self._try("prediction", lambda: self._answers.update([_bits(client.predict("late", columns=_ROW))]))

    def _try(self, what: str, call: object) -> bool:
        began = time.monotonic()
        try:
            call()  # type: ignore[operator]
        except Failure as failure:
            self.failures.append(f"{what}: {failure.code}: {failure}")
            return False
        finally:
            self._slowest = max(self._slowest, time.monotonic() - began)
        return True

    def judged(self) -> str:
        """What there was. Raises AssertionError when something that was acknowledged is not there."""
        assert self._made, f"no write was acknowledged: {self.failures[:3]}"
        with self._stack.client() as client:
            there = {model.model for model in client.models.iterate_models()}
        lost = [name for name in self._made if name not in there]
        assert not lost, f"{len(lost)} of {len(self._made)} acknowledged writes are lost"
        versions = {version for version, _ in self._answers}
        assert len(versions) == len(self._answers), "the same row had different answers of one version"
        return (
            f"{len(self._made)} writes, all there, {self._reads} reads, {self._answers.total()} predictions, the same "
            f"bits, {len(self.failures)} refused, slowest {self._slowest:.1f} s"
        )


def _bits(answer: Prediction) -> tuple[int, bytes]:
    return answer.version, answer["probability"].tobytes()
