"""How far the groups of an installation have read what is on Kafka."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from services.kit.bus import TELEMETRY
from services.kit.bus_kafka.cluster import Cluster
from services.kit.errors import Unavailable

Ends = dict[tuple[str, int], int]
_SECONDS = 10_000  # milliseconds for a question
_OURS, _ASIDE = "aimass.", ".dead"


class Offsets:
    """Asks; changes nothing. Its methods block."""

    def __init__(self, url: str, tls_dir: Path | None) -> None:
        self._cluster = Cluster(url, tls_dir)

    @contextlib.contextmanager
    def asking(self) -> Iterator["Offsets"]:
        """Connected for a block. Raises unavailable, also what its questions raise."""
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
        """Where each partition of our events ends; what nobody could handle is aside and not counted."""
        topics = [name for name in self._consumer.topics() if name.startswith(_OURS) and not name.endswith(_ASIDE)]
        places = [TopicPartition(t, number) for t in topics for number in self._consumer.partitions_for_topic(t) or ()]
        found = self._consumer.end_offsets(places, timeout_ms=_SECONDS) if places else {}
        return {(place.topic, place.partition): end for place, end in found.items() if end}

    def behind(self, ends: Ends) -> list[str]:
        """What has not been read up to these ends: a sentence for each group and topic."""
        groups = self._read()
        late = {
            f"{group} has not read all of {topic}"
            for group, (topics, read) in groups.items()
            for (topic, number), end in ends.items()
            if topic in topics and read.get((topic, number), 0) < end
        }
        known = {topic for topics, _ in groups.values() for topic in topics}
        return sorted(late | {f"nobody has read {topic}" for topic, _ in ends if topic not in known})

    def _read(self) -> dict[str, tuple[set[str], Ends]]:
        """Of each group that reads our topics: which, and how far."""
        names = [_group_name(group) for group in self._admin.list_groups()]
        if not names:
            return {}
        read = {
            group: {(p.topic, p.partition): o.offset for p, o in offsets.items() if o.offset >= 0}
            for group, offsets in self._admin.list_group_offsets(names).items()
        }
        topics = {group: {topic for topic, _ in places} for group, places in read.items()}
        for group, found in self._admin.describe_groups(names).items():
            topics.setdefault(group, set()).update(_subscribed(found))
        ours = {group: {topic for topic in found if topic.startswith(_OURS)} for group, found in topics.items()}
        return {group: (found, read.get(group, {})) for group, found in ours.items() if found}


def counted(ends: Ends) -> Ends:
    """Without telemetry, which never ceases and which no state depends on."""
    return {place: end for place, end in ends.items() if place[0] != TELEMETRY}


def _group_name(group: Any) -> str:
    return str(group["group_id"])


def _subscribed(group: Any) -> set[str]:
    return {topic for member in group["members"] for topic in (member["member_metadata"] or {}).get("topics", ())}
