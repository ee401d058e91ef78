"""One run over a topic: how far it is in each partition, whatever becomes of the brokers.

The cursor is the truth; no offset is committed to a consumer group. It moves with the rows that the run adds.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from services.data.reading import kafka_broker
from services.data.reading.connector import End, Sink
from services.data.reading.extractor import Extractor
from services.data.reading.folders import Place
from services.data.reading.kafka_broker import Topic
from services.data.reading.kafka_records import split
from services.data.reading.patience import SHARE, Patience
from services.data.reading.topics import KafkaSource, LostRecords
from services.kit.errors import FailedPrecondition, Failure

_PAGE = 8192  # records that are typed together
_SILENCE = 10.0  # seconds without a record, of those that are there, until a client is made anew
_POLL = 500  # milliseconds


class Run:
    """Reads up to where each partition ends when the run begins."""

    def __init__(
        self, source: KafkaSource, place: Place, ready: Extractor, cursor: dict[str, Any], sink: Sink, seconds: float
    ) -> None:
        self._source, self._place, self._ready, self._sink = source, place, ready, sink
        self._seconds, self._until = seconds, time.monotonic() + seconds * SHARE
        self._cursor = cursor
        self._topic = Topic("", ())
        # By partition: the next offset, and where the run ends.
        self._next: dict[int, int] = {}
        self._ends: dict[int, int] | None = None
        self._begun = 0
        self._notes: list[str] = []

    def read(self) -> End:
        """Where the next run begins. Raises unavailable for brokers that stay away, failed_precondition."""
        patience = Patience(self._seconds, self._sink.wait)
        while True:
            before = sum(self._next.values())
            try:
                self._go_on()
                return self._end()
            except Failure as failure:
                if sum(self._next.values()) != before:
                    patience.got_on()
                patience.bear(failure)

    def _go_on(self) -> None:
        if self._ends is None:
            self._topic = kafka_broker.describe(self._place, self._source)
        with kafka_broker.opened(self._place, self._source) as consumer:
            if self._ends is None:
                self._begin(consumer)
            if left := self._left():
                self._seek(consumer, left)
                self._read(consumer)

    def _begin(self, consumer: Any) -> None:
        places = [self._at(number) for number in self._topic.partitions]
        begins, ends = _by_number(consumer.beginning_offsets(places)), _by_number(consumer.end_offsets(places))
        self._next = self._from(begins, ends)
        self._ends = ends
        self._begun = sum(self._next.values())

    def _from(self, begins: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, int]:
        """Where each partition is read from. Raises failed_precondition when records are gone that were not read."""
        before = {int(number): int(offset) for number, offset in self._cursor.get("partitions", {}).items()}
        if before and self._cursor.get("topic") != self._topic.id:
            self._notes.append(f"{self._source.topic} is another topic than before and was read from its start")
            before = {}
        found = dict[int, int]()
        for number, begin in begins.items():
            after = before.get(number, begin)
            found[number] = self._checked(number, after, begin, ends[number])
        return found

    def _checked(self, number: int, after: int, begin: int, end: int) -> int:
        name = f"{self._source.topic}/{number}"
        if begin <= after <= end:
            return after
        if after < begin:
            lost, place = f"{begin - after} records of {name} were deleted before they were read", begin
            lost += f": offsets {after} to {begin - 1}"
        else:
            lost, place = f"{name} was read to offset {after}, but ends at {end}: the brokers have lost its end", end
        if self._source.lost_records is not LostRecords.SKIP:
            raise FailedPrecondition(f"{lost}; to go on without them set lost_records to LOST_RECORDS_SKIP")
        self._notes.append(lost)
        return place

    def _seek(self, consumer: Any, left: Sequence[int]) -> None:
        consumer.assign([self._at(number) for number in left])
        for number in left:
            consumer.seek(self._at(number), self._next[number])

    def _read(self, consumer: Any) -> None:
        """Until nothing is left. Raises unavailable when no records come."""
        heard = time.monotonic()
        while left := self._left():
            now = time.monotonic()
            if now > self._until:
                return
            if now - heard > _SILENCE:
                raise kafka_broker.away(self._source)
            before = sum(self._next.values())
            self._poll(consumer, left)
            if sum(self._next.values()) != before:
                heard = now
            self._sink.tell(self._share())

    def _poll(self, consumer: Any, left: Sequence[int]) -> None:
        from kafka.errors import LogTruncationError, NoOffsetForPartitionError, OffsetOutOfRangeError

        try:
            found = consumer.poll(timeout_ms=_POLL, max_records=_PAGE)
            for place, batch in found.items():
                self._take(place.partition, batch)
            for number in () if found else left:
                self._pass(number, consumer.position(self._at(number), timeout_ms=0))
        except (OffsetOutOfRangeError, NoOffsetForPartitionError, LogTruncationError):
            self._retained(consumer)

    def _retained(self, consumer: Any) -> None:
        """Records were deleted while the run was reading."""
        left, ends = self._left(), self._ends or {}
        begins = _by_number(consumer.beginning_offsets([self._at(number) for number in left]))
        for number in left:
            self._next[number] = min(
                self._checked(number, self._next[number], begins[number], ends[number]), ends[number]
            )
        self._seek(consumer, self._left())

    def _take(self, number: int, batch: Sequence[Any]) -> None:
        """The records of one partition; those behind the end are for the next run."""
        end = (self._ends or {})[number]
        records = [record for record in batch if self._next[number] <= record.offset < end]
        documents, whole, broken = split(self._source.value_format, records)
        name = f"{self._source.topic}/{number}"
        self._sink.take(self._ready, documents, [f"{name}:{record.offset}" for record in whole], ())
        self._sink.take_broken(broken, name)
        if batch:
            self._pass(number, batch[-1].offset + 1)

    def _pass(self, number: int, offset: int | None) -> None:
        """All before an offset has been read: markers of transactions and what was compacted are no records."""
        end = (self._ends or {})[number]
        self._next[number] = max(self._next[number], min(offset or 0, end))

    def _left(self) -> list[int]:
        return [number for number, end in (self._ends or {}).items() if self._next[number] < end]

    def _share(self) -> float:
        total = sum((self._ends or {}).values()) - self._begun
        return (sum(self._next.values()) - self._begun) / total if total > 0 else 0.0

    def _end(self) -> End:
        if left := self._left():
            rest = sum((self._ends or {})[number] - self._next[number] for number in left)
            self._notes.append(f"{rest} records are left for the next run, as the time of this one ends")
        offsets = {str(number): offset for number, offset in self._next.items()}
        return End({"topic": self._topic.id, "partitions": offsets}, self._notes)

    def _at(self, number: int) -> Any:
        from kafka import TopicPartition

        return TopicPartition(self._source.topic, number)


def _by_number(offsets: Mapping[Any, int]) -> dict[int, int]:
    return {place.partition: offset for place, offset in offsets.items()}
