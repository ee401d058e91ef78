"""Reading from Kafka. Each reader has a thread of its own that owns its consumer, as the library blocks.

Partitions are reassigned only in `poll`, when all that was handed out before has been handled. So no two readers work
on the same partition, unless one works for longer than `_LONGEST_WORK`; then inboxes make each effect happen once.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from services.kit.bus_kafka import offsets
from services.kit.bus_kafka.circling import STUCK, Circling, is_mute
from services.kit.bus_kafka.client import Complaints, end_consumer
from services.kit.bus_kafka.cluster import Cluster
from services.kit.bus_kafka.records import event_of
from services.kit.errors import Unavailable
from services.kit.event import Event

T = TypeVar("T")
_SLICE = 250  # milliseconds of one poll, for which a close may have to wait
_COMMIT, _CLOSE = 3000, 500  # milliseconds
_PAUSE = 1.0  # seconds between tries to open
_OPEN = 3.0  # seconds of `open`
_NEW_PARTITIONS = 30.0  # seconds between looks for partitions that were added
_LONGEST_WORK = 15 * 60_000  # milliseconds between polls; then the group takes the partitions away
_SETTINGS: dict[str, Any] = {
    "metrics_enabled": False,
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "allow_auto_create_topics": False,
    "session_timeout_ms": 10_000,
    "heartbeat_interval_ms": 2000,
    "max_poll_interval_ms": _LONGEST_WORK,
    "fetch_max_wait_ms": 500,
    "fetch_max_bytes": 16 * 2**20,
    "request_timeout_ms": 10_000,
}


class KafkaReader:
    """A consumer in a group, or with `from_end` one without a group."""

    def __init__(self, cluster: Cluster, topics: Sequence[str], group: str, from_end: bool) -> None:
        self._cluster, self._topics, self._group, self._passing = cluster, list(topics), group, from_end
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"kafka-{group}"[:40])
        self._consumer: Any = None
        self._polling: asyncio.Future[list[Event]] | None = None
        self._closing = threading.Event()
        self._complaints, self._circling = Complaints(), Circling(self._closing.wait)
        # Without a group: the next offsets. In a group: those committed, so that a commit never goes back.
        self._places: dict[TopicPartition, int] = {}
        self._looked = 0.0
        self.lag: dict[str, int] = {}  # by group: events that it has not committed

    @property
    def closed(self) -> bool:
        return self._closing.is_set()

    async def open(self) -> None:
        """Finds the present ends; `poll` tries again if the cluster is away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OPEN):
                await asyncio.get_running_loop().run_in_executor(self._thread, self._ready)

    async def poll(self, limit: int) -> list[Event]:
        """Waits for a cluster that is away as well. What a cancelled poll has fetched the next one returns."""
        while True:
            if self.closed:
                raise Unavailable(f"{self._group} has stopped to read")
            if self._polling is None:
                self._polling = asyncio.get_running_loop().run_in_executor(self._thread, self._read, limit)
            with contextlib.suppress(Unavailable):
                if events := await self._answer(self._polling):
                    return events

    async def _answer(self, asked: "asyncio.Future[T]") -> T:
        """The result of the thread. Raises unavailable when it takes too long; then another thread has its place."""
        done, _ = await asyncio.wait({asked}, timeout=STUCK)
        if not done:
            self._abandon()
            raise Unavailable(f"the consumer of {self._group} does not answer")
        if asked is self._polling:
            self._polling = None
        return asked.result()

    def _abandon(self) -> None:
        """Leaves a thread that hangs, with its consumer, and goes on with new ones."""
        self._complaints.say(f"{self._group} reads again: the consumer has not answered for {STUCK:g} s")
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"kafka-{self._group}"[:40])
        self._consumer, self._polling = None, None

    async def commit(self, events: Sequence[Event]) -> None:
        """Leaves out partitions that have been reassigned. Raises unavailable."""
        ends, loop = offsets.ends(events), asyncio.get_running_loop()
        await self._answer(loop.run_in_executor(self._thread, self._commit, ends))

    async def close(self) -> None:
        """Leaves the group; returns soon also when the cluster is away."""
        if self.closed:
            return
        self._closing.set()
        ending = asyncio.get_running_loop().run_in_executor(self._thread, self._end)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout((_SLICE + 2 * _CLOSE) / 1000):
                await ending
        self._thread.shutdown(wait=False)

    def _ready(self) -> bool:
        try:
            if self._consumer is None:
                self._cluster.make(self._topics)
                self._consumer = self._opened()
        except Exception as error:  # bugs of the library as well: a new consumer follows
            self._end()
            self._complaints.say(f"{self._group} waits for the bus: {error or type(error).__name__}")
            self._closing.wait(_PAUSE)
            return False
        return True

    def _read(self, limit: int) -> list[Event]:
        if self.closed or not self._ready():
            return []
        consumer = self._consumer
        try:
            self._cluster.renew()
            if self._passing and time.monotonic() - self._looked > _NEW_PARTITIONS:
                self._take_new()
            began, worked = time.monotonic(), time.thread_time()
            found = consumer.poll(_SLICE, max_records=limit)
            mute = not self._passing and is_mute(consumer)
            circles = self._circling.after(bool(found), time.monotonic() - began, time.thread_time() - worked)
            if self._circling.silent(mute) or circles:
                raise KafkaError("the consumer is broken: it polls without waiting or sends no heartbeats")
            return self._events(consumer, found) if self._consumer is consumer else []
        except Exception as error:
            if self._consumer is not consumer:
                return []  # abandoned meanwhile
            self._end()
            self._complaints.say(f"{self._group} reads again: {error or type(error).__name__}")
            self._closing.wait(_PAUSE)
            return []

    def _events(self, consumer: Any, found: dict[TopicPartition, Any]) -> list[Event]:
        self._places = {place: records[0].offset for place, records in found.items()} | self._places
        ends = {place: consumer.highwater(place) or 0 for place in consumer.assignment()}
        if not self._passing:
            self.lag[self._group] = sum(max(0, end - self._places.get(place, end)) for place, end in ends.items())
        return [event_of(record) for records in found.values() for record in records]

    def _opened(self) -> Any:
        consumer = self._cluster.client(KafkaConsumer, group_id=None if self._passing else self._group, **_SETTINGS)
        try:
            # In a group as well, as it loads the topics' metadata: who joins without is assigned nothing at first.
            ends = consumer.end_offsets(self._cluster.places(self._topics), timeout_ms=_COMMIT)
            if self._passing:
                self._places = self._places or ends
                offsets.seek(consumer, self._places)
            else:
                self._places = {}
                consumer.subscribe(self._topics)
        except BaseException:
            end_consumer(consumer, _CLOSE)
            raise
        self._looked = time.monotonic()
        return consumer

    def _take_new(self) -> None:
        """Reads partitions that were added, from their beginning."""
        self._looked = time.monotonic()
        if new := set(self._cluster.places(self._topics)) - self._places.keys():
            now = {place: self._consumer.position(place, timeout_ms=_COMMIT) for place in self._places}
            offsets.seek(self._consumer, now | dict.fromkeys(new, 0))
            self._places |= dict.fromkeys(new, 0)

    def _commit(self, ends: dict[TopicPartition, int]) -> None:
        consumer = self._consumer
        ends = {place: end for place, end in ends.items() if end > self._places.get(place, 0)}
        if not self._passing and ends:
            try:
                # A new consumer reads on after what was committed.
                ends = offsets.commit(consumer, ends) if consumer else {}
            except Exception as error:  # bugs of the library as well: events that come again are known
                if self._consumer is consumer:
                    self._end()
                raise Unavailable(f"kafka does not take offsets: {error or type(error).__name__}") from None
        if self._consumer is consumer:
            self._places |= ends

    def _end(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            end_consumer(consumer, _CLOSE)
