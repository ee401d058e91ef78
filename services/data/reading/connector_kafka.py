"""Topics of Kafka: records behind the offsets of the partitions, up to where they end when a run begins."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from services.data.reading import extractor, kafka_broker, samples, topics
from services.data.reading.connector import End, PartLag, Sink
from services.data.reading.extractor import Extractor
from services.data.reading.folders import Place
from services.data.reading.kafka_broker import Topic
from services.data.reading.kafka_records import Broken, document
from services.data.reading.kafka_run import Run
from services.data.reading.kinds import Compiled
from services.data.reading.samples import Sample, Tried, suggested
from services.data.reading.topics import KafkaSource
from services.data.schema import Column, ColumnType

_PARTS = 100  # that are named
_BYTES = 16 * 2**20  # of a sample
_COLUMNS = (
    Column("key", ColumnType.STRING, True),
    Column("partition", ColumnType.INT64, False),
    Column("offset", ColumnType.INT64, False),
    Column("timestamp", ColumnType.TIMESTAMP, True),
)


class KafkaConnector:
    """A topic. The cursor has the next offset of each partition, and which topic of that name they are of."""

    apart = True

    def __init__(self, source: KafkaSource) -> None:
        self._source = source

    @property
    def identity(self) -> str:
        """The name of the topic: the same cluster has other brokers in time, and the cursor knows its topic."""
        return f"kafka/{hashlib.sha256(self._source.topic.encode()).hexdigest()}"

    @property
    def reaches(self) -> Sequence[tuple[str, int]]:
        """The brokers that are asked first."""
        return topics.servers(self._source)

    def ready(self, compiled: Compiled, fields: Sequence[str]) -> Extractor:
        """What extracts documents."""
        return extractor.of(compiled, (), ())

    def below(self, allowed: Sequence[Path]) -> Place:
        """Nothing of this machine."""
        return Place(Path("/"), ())

    def look(self, place: Place) -> Topic:
        """Describes the topic; that its records may be read, the first look at them shows."""
        found = kafka_broker.describe(place, self._source)
        with kafka_broker.opened(place, self._source) as consumer:
            consumer.beginning_offsets(_places(self._source, found)[:1])
        return found

    def preview(self, place: Place, records: int) -> Sample:
        """The oldest records of the partitions that are there."""
        found = list[dict[str, Any]]()
        topic = kafka_broker.describe(place, self._source)
        for record in self._first(place, topic, records):
            try:
                found.append(document(self._source.value_format, record))
            except Broken:
                continue
        columns = [suggested("value", [one["value"] for one in found], set()), *_COLUMNS]
        parts = tuple(f"{self._source.topic}/{number}" for number in topic.partitions[:_PARTS])
        return Sample(tuple(found), tuple(columns), parts)

    def tries(self, place: Place, compiled: Compiled, records: int) -> Iterator[Tried]:
        """The same with what extracts them, and what is no record."""
        ready = self.ready(compiled, ())
        for record in self._first(place, kafka_broker.describe(place, self._source), records):
            try:
                yield Tried(document(self._source.value_format, record), ready, ())
            except Broken as broken:
                yield Tried(None, ready, (), broken.text, broken.reason)

    def _first(self, place: Place, topic: Topic, count: int) -> list[Any]:
        """Records in the order of their times; fewer when they are large, or slow to come."""
        found, size, deadline = list[Any](), 0, time.monotonic() + samples.SECONDS
        with kafka_broker.opened(place, self._source) as consumer:
            places = _places(self._source, topic)
            begins, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
            left = [one for one in places if begins[one] < ends[one]]
            consumer.assign(left)
            for one in left:
                consumer.seek(one, begins[one])
            while left and len(found) < count and size < _BYTES and time.monotonic() < deadline:
                for one, batch in consumer.poll(timeout_ms=500, max_records=count - len(found)).items():
                    found += [record for record in batch if record.offset < ends[one]]
                    size += sum(len(record.value or b"") for record in batch)
                left = [one for one in left if (consumer.position(one) or 0) < ends[one]]
        return sorted(found, key=lambda record: (record.timestamp, record.partition, record.offset))

    def lag(self, place: Place, cursor: dict[str, Any]) -> Sequence[PartLag] | None:
        """Offsets behind the cursor in each partition, among them markers of transactions and what was compacted."""
        topic = kafka_broker.describe(place, self._source)
        with kafka_broker.opened(place, self._source) as consumer:
            places = _places(self._source, topic)
            begins, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
        known = cursor.get("partitions", {}) if cursor.get("topic") == topic.id else {}
        return [
            PartLag(f"{one.topic}/{one.partition}", max(known.get(str(one.partition), 0), begins[one]), ends[one])
            for one in places
        ]

    def read(self, place: Place, compiled: Compiled, cursor: dict[str, Any], sink: Sink, seconds: float) -> End:
        """The records behind the cursor that are there when it begins; brokers that are away are waited for."""
        return Run(self._source, place, self.ready(compiled, ()), cursor, sink, seconds).read()


def _places(source: KafkaSource, topic: Topic) -> list[Any]:
    from kafka import TopicPartition

    return [TopicPartition(source.topic, number) for number in topic.partitions]
