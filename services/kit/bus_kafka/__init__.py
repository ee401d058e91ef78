"""The bus on Kafka: acknowledged by all in-sync replicas, consumed in groups.

Importing the library takes a tenth of a start, so it is imported in a thread by the first who publishes or reads.
"""

import asyncio
import importlib
import importlib.util
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from services.kit.bus_kafka.cluster import Cluster
from services.kit.errors import Code, Failure, Unavailable
from services.kit.event import LARGEST, Event

if TYPE_CHECKING:
    from services.kit.bus_kafka.producer import Producer, Report
    from services.kit.bus_kafka.reader import KafkaReader

__all__ = ["KafkaBus"]
_PATIENCE = 5.0  # seconds for a batch
_HELD = 64 * 2**20  # bytes that may wait for acknowledgement


class KafkaBus:
    """Publishes to and reads from the cluster at kafka://host:port,host:port."""

    def __init__(self, url: str, tls_dir: Path | None = None) -> None:
        """Connects to nothing. Raises ConfigError for another URL, ModuleNotFoundError without the library."""
        if importlib.util.find_spec("kafka") is None:
            raise ModuleNotFoundError("No module named 'kafka'", name="kafka")
        self._cluster = Cluster(url, tls_dir)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka-send")
        self._producer: Producer | None = None
        self._held, self._loaded = 0, False
        self._readers: list[KafkaReader] = []

    async def start(self) -> None:
        """Nothing: publishing and reading wait for the cluster."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Returns when the in-sync replicas have the events. Raises unavailable within some seconds.

        Some of them may be stored all the same; publishing them again, in the same order, keeps the order of each key.
        """
        sizes = [event.size for event in events]
        if max(sizes, default=0) > LARGEST:
            raise Failure(Code.LIMIT_EXCEEDED, f"an event has {max(sizes)} bytes, the bus takes {LARGEST}")
        if self._held + sum(sizes) > _HELD:
            raise Unavailable("too many bytes wait for kafka")
        if not events:
            return
        self._held += sum(sizes)
        try:
            await self._load()
            from services.kit.bus_kafka.producer import Report

            await self._deliver(events, Report(len(events)))
        finally:
            self._held -= sum(sizes)

    async def _load(self) -> None:
        if not self._loaded:
            for name in ("producer", "reader"):
                module = f"services.kit.bus_kafka.{name}"
                await asyncio.get_running_loop().run_in_executor(self._thread, importlib.import_module, module)
            self._loaded = True

    async def _deliver(self, events: Sequence[Event], report: "Report") -> None:
        from kafka.errors import KafkaError

        try:
            async with asyncio.timeout(_PATIENCE):
                await asyncio.get_running_loop().run_in_executor(self._thread, self._send, events, report)
                await report.done
        except (TimeoutError, KafkaError, OSError) as error:
            report.given_up = True
            self._end_producer()
            raise Unavailable(f"kafka does not take events: {error or type(error).__name__}") from None
        finally:
            report.given_up = True
            report.done.cancel()

    def _end_producer(self) -> None:
        """What was not acknowledged must not arrive after what is published next."""
        if self._producer:
            self._producer.end()
        self._cluster.forget()

    def _send(self, events: Sequence[Event], report: "Report") -> None:
        from services.kit.bus_kafka.producer import Producer

        if report.given_up:
            return
        if self._producer is None or self._producer.ended:
            if self._producer:
                self._producer.close()
            self._producer = Producer(self._cluster)
        self._cluster.renew()
        self._cluster.make({event.topic for event in events})
        self._producer.send(events, report)

    async def reader(self, topics: Sequence[str], group: str, from_end: bool = False) -> "KafkaReader":
        """`from_end` uses no consumer group: such a reader takes all partitions and commits nothing."""
        await self._load()
        from services.kit.bus_kafka.reader import KafkaReader

        found = KafkaReader(self._cluster, topics, group, from_end)
        self._readers = [*(reader for reader in self._readers if not reader.closed), found]
        if from_end:
            await found.open()
        return found

    async def lag(self) -> dict[str, int]:
        """Of the partitions that this process reads, by the end offsets that it has seen last."""
        return {group: count for reader in self._readers if not reader.closed for group, count in reader.lag.items()}

    async def close(self) -> None:
        """Ends threads and connections, also when no broker answers."""
        await asyncio.gather(*(reader.close() for reader in self._readers))
        if self._producer:
            self._producer.end()
            await asyncio.get_running_loop().run_in_executor(self._thread, self._producer.close)
        self._thread.shutdown(wait=False)
