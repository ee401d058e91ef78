"""Offsets of an installation's consumer groups on Kafka: how far each has read."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from services.kit import contract
from services.kit.bus_kafka.cluster import Cluster
from services.kit.errors import Unavailable
from services.kit.event import TELEMETRY

Ends = dict[tuple[str, int], int]
_SECONDS = 10_000  # milliseconds for a question
_OURS, _ASIDE = "aimass.", ".dead"
# The groups that commit offsets, and their topics. Broadcast listeners commit none.
READERS: Mapping[str, frozenset[str]] = {
    "logs": frozenset({TELEMETRY, *contract.topics()}),
    "gateway-2": frozenset({"aimass.data.v1", "aimass.registry.v1", "aimass.trainer.v1"}),
    "registry": frozenset({"aimass.trainer.v1"}),
    "registry-1": frozenset({"aimass.gateway.v1", "aimass.inference.v1"}),
}


class Offsets:
    """Reads offsets from the cluster; changes nothing. Its methods block."""

    def __init__(self, url: str, tls_dir: Path | None, readers: Mapping[str, frozenset[str]] = READERS) -> None:
        self._cluster, self._readers = Cluster(url, tls_dir), readers

    @contextlib.contextmanager
    def asking(self) -> Iterator["Offsets"]:
        """Connects for a block. Raises unavailable for what fails in it."""
        try:
            with contextlib.ExitStack() as held:
                self._admin = self._cluster.client(KafkaAdminClient, request_timeout_ms=_SECONDS)
                held.callback(self._admin.close)
                self._consumer = self._cluster.client(
                    KafkaConsumer, group_id=None, enable_auto_commit=False, request_timeout_ms=_SECONDS
                )
                held.callback(self._consumer.close, autocommit=False, timeout_ms=500)
                yield self
        except KafkaError as error:
            raise Unavailable(f"kafka cannot be asked: {error or type(error).__name__}") from None

    def ends(self) -> Ends:
        """The end offset of each partition that has our events; dead letter topics are left out."""
        topics = [name for name in self._consumer.topics() if name.startswith(_OURS) and not name.endswith(_ASIDE)]
        places = [TopicPartition(t, number) for t in topics for number in self._consumer.partitions_for_topic(t) or ()]
        found = self._consumer.end_offsets(places, timeout_ms=_SECONDS) if places else {}
        first = self._consumer.beginning_offsets(places, timeout_ms=_SECONDS) if places else {}
        return {(place.topic, place.partition): end for place, end in found.items() if end > first[place]}

    def behind(self, ends: Ends) -> dict[str, int]:
        """For each group and topic that is behind these ends: a sentence that says so, and how many events are unread.

        Groups without a running consumer count as well.
        """
        try:
            return {sentence: left for group in sorted(self._readers) for sentence, left in self._late(group, ends)}
        except KafkaError as error:
            if not error.retriable:
                raise
            return {f"kafka does not know its groups at this time: {type(error).__name__}": 0}

    def _late(self, group: str, ends: Ends) -> list[tuple[str, int]]:
        read = self._admin.list_group_offsets(group).get(group, {})
        done = {(place.topic, place.partition): found.offset for place, found in read.items()}
        left = Counter[str]()
        for place, end in ends.items():
            if place[0] in self._readers[group]:
                left[place[0]] += max(end - done.get(place, 0), 0)
        return [(f"{group} has not read all of {topic}", count) for topic, count in sorted(left.items()) if count]


def counted(ends: Ends) -> Ends:
    """Without telemetry, which never pauses and which no state depends on."""
    return {place: end for place, end in ends.items() if place[0] != TELEMETRY}
