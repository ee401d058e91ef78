"""A producer that stops for good at the first record that it cannot deliver.

So for each key it has delivered a prefix of what it was given. When the same events are given, in the same order, to
the next producer, consumers see each key in order, with some events twice.
"""

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from services.kit.bus_kafka.cluster import Cluster
from services.kit.bus_kafka.records import headers_of
from services.kit.event import LARGEST, Event

_SETTINGS: dict[str, Any] = {
    "metrics_enabled": False,
    "acks": "all",
    "enable_idempotence": True,
    "allow_auto_create_topics": False,
    "batch_size": 2**18,
    "linger_ms": 2,
    "max_block_ms": 3000,
    "request_timeout_ms": 10_000,
    # Longer than anybody waits: who gives up stops the producer, which at its own timeout would skip a batch and go on.
    "delivery_timeout_ms": 60_000,
    "max_request_size": 2 * LARGEST,
}


class Report:
    """The future result of one `publish`: done when all its records are acknowledged, failed when one cannot be."""

    def __init__(self, count: int) -> None:
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._left, self._lock = count, threading.Lock()
        self.given_up = False

    def delivered(self, _: Any) -> None:
        with self._lock:
            self._left -= 1
            if self._left:
                return
        self._finish(None)

    def failed(self, error: BaseException) -> None:
        self._finish(error)

    def _finish(self, error: BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._end, error)

    def _end(self, error: BaseException | None) -> None:
        if self.done.done():
            return
        if error:
            self.done.set_exception(error)
        else:
            self.done.set_result(None)


class Producer:
    """Sends until something fails. Its methods block: call them in a thread."""

    def __init__(self, cluster: Cluster) -> None:
        """Raises KafkaError when no broker answers."""
        self._producer = cluster.client(KafkaProducer, **_SETTINGS)
        self.ended = False

    def send(self, events: Sequence[Event], report: Report) -> None:
        """Returns when the records are queued. Raises KafkaError."""
        for event in events:
            if report.given_up or self.ended:
                raise KafkaError("sending was given up")
            key, headers = event.key.encode(errors="replace"), headers_of(event)
            future = self._producer.send(event.topic, value=event.body, key=key, headers=headers)
            future.add_callback(report.delivered)
            # Called in the sender's thread, before its next batch.
            future.add_errback(self._fail, report)

    def _fail(self, report: Report, error: BaseException) -> None:
        self.end()
        report.failed(error)

    def end(self) -> None:
        """Drops what waits to be sent; its reports fail."""
        self.ended = True
        # `close` would first send what waits, and must not be called in the sender's thread.
        self._producer._sender.force_close()

    def close(self) -> None:
        """Ends, and closes threads and connections."""
        self.end()
        self._producer._sender.join(1)
        with contextlib.suppress(KafkaError):  # it complains of what was dropped
            self._producer.close(timeout=0)
