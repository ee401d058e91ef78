"""A Kafka cluster: its URL, the settings of clients, and its topics, which are created before they are used."""

import contextlib
import logging
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from services.kit.config import ConfigError
from services.kit.event import LARGEST, TELEMETRY

if TYPE_CHECKING:
    from kafka import TopicPartition

log = logging.getLogger("services.kit.bus_kafka")
_DAY = 24 * 3600 * 1000  # milliseconds
_BOOTSTRAP = 1500  # milliseconds that a broker may take to answer at first
_AGE = 30_000  # milliseconds until metadata of the cluster is fetched again
_ASKED = 4000  # milliseconds for an administrative request
_LOOK = 10.0  # seconds between looks for renewed certificates
_EXISTS = 36  # the protocol's error code TOPIC_ALREADY_EXISTS
_DEAD = ".dead"


@dataclass(frozen=True)
class Place:
    """The parts of a URL. `replication` is the number of copies of each record."""

    servers: tuple[str, ...]
    tls: bool
    partitions: int = 12
    replication: int = 1

    @classmethod
    def of(cls, url: str) -> "Place":
        """Parses kafka://host:port,host:port?partitions=12&replication=1. Raises ConfigError without the URL in it."""
        scheme, _, rest = url.partition("://")
        servers, _, query = rest.partition("?")
        try:
            numbers = {name: int(value) for name, value in parse_qsl(query, True, bool(query))}
            hosts = tuple(_server(server) for server in servers.split(","))
            if not numbers.keys() <= {"partitions", "replication"} or min(numbers.values(), default=1) < 1:
                raise ValueError
        except ValueError:
            raise ConfigError(
                "AIMASS_BUS_URL: must be kafka://host:port,host:port?partitions=12&replication=1"
            ) from None
        return cls(hosts, scheme == "kafka+ssl", **numbers)


def _server(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not 0 < int(port) < 65536 or set(host) & set("@/"):
        raise ValueError
    return text


class _Certificates:
    """One TLS context for all clients, so that existing ones use renewed certificates as well."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._looked = folder, float("-inf")
        self._seen: tuple[float, ...] = ()
        try:
            self.context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
            self.renew()
        except OSError as error:  # an SSLError is one
            raise ConfigError(f"AIMASS_TLS_DIR: {folder} has no ca.pem, cert.pem and key.pem: {error}") from None

    def renew(self) -> None:
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        parts = [self._folder / name for name in ("ca.pem", "cert.pem", "key.pem")]
        seen = tuple(part.stat().st_mtime for part in parts)
        if seen != self._seen:
            self.context.load_verify_locations(parts[0])
            self.context.load_cert_chain(parts[1], parts[2])
            self._seen = seen


class Cluster:
    """Makes clients, and creates topics."""

    def __init__(self, url: str, tls_dir: Path | None) -> None:
        """Connects to nothing. Raises ConfigError."""
        self.place = Place.of(url)
        if self.place.tls and tls_dir is None:
            raise ConfigError("AIMASS_BUS_URL: kafka+ssl:// needs AIMASS_TLS_DIR")
        self._context = _Certificates(tls_dir) if self.place.tls and tls_dir else None
        self._known: set[str] = set()
        self._making = threading.Lock()

    def client(self, kind: Any, **settings: Any) -> Any:
        """A client of one of the library's classes. Blocks; raises KafkaError when no broker answers."""
        from services.kit.bus_kafka.client import listen_to_library, make_client

        listen_to_library()
        self.renew()
        servers: dict[str, Any] = {"bootstrap_servers": list(self.place.servers), "bootstrap_timeout_ms": _BOOTSTRAP}
        options = servers | {"reconnect_backoff_max_ms": 1000, "metadata_max_age_ms": _AGE}
        if self._context:
            options |= {"security_protocol": "SSL", "ssl_context": self._context.context}
        return make_client(kind, **options, **settings)

    def renew(self) -> None:
        """Loads renewed certificates, for new connections."""
        if self._context:
            try:
                self._context.renew()
            except OSError as error:  # half written: the next look finds the rest
                log.warning("renewed certificates cannot be read yet: %s", error)

    def make(self, topics: Iterable[str]) -> None:
        """Creates topics that do not exist, each with its dead letter topic. Blocks; raises KafkaError."""
        with self._making:
            if wanted := {topic.removesuffix(_DEAD) for topic in topics} - self._known:
                self._make(wanted)
                self._known |= wanted

    def forget(self) -> None:
        """Asks again next time whether topics exist: somebody may have deleted one."""
        self._known = set()

    def places(self, topics: Iterable[str]) -> "list[TopicPartition]":
        """All partitions of topics. Blocks; raises KafkaError."""
        from kafka import KafkaAdminClient, TopicPartition
        from kafka.errors import KafkaError

        admin = self.client(KafkaAdminClient, request_timeout_ms=_ASKED)
        with contextlib.closing(admin):
            found = admin.describe_topics(list(topics))
        if lacking := [one["name"] for one in found if one["error_code"] or not one["partitions"]]:
            self.forget()
            raise KafkaError(f"there is no topic {lacking[0]}")
        return [TopicPartition(one["name"], part["partition_index"]) for one in found for part in one["partitions"]]

    def _make(self, wanted: set[str]) -> None:
        from kafka import KafkaAdminClient
        from kafka.errors import KafkaError

        admin = self.client(KafkaAdminClient, request_timeout_ms=_ASKED)
        try:
            there = set(admin.list_topics())
            new = {name for topic in wanted for name in (topic, topic + _DEAD)} - there
            if not new:
                return
            made = admin.create_topics(
                {topic: self._shape(topic) for topic in new},
                timeout_ms=5000,
                raise_errors=False,
                wait_for_metadata=True,
            )
            for topic in made["topics"]:
                if topic["error_code"] not in (0, _EXISTS):
                    raise KafkaError(f"{topic['name']} cannot be created: {topic['error_message']}")
        finally:
            admin.close()

    def _shape(self, topic: str) -> dict[str, Any]:
        copies = self.place.replication
        kept = _DAY if topic.startswith(TELEMETRY) else 7 * _DAY
        configs = {"retention.ms": str(kept), "max.message.bytes": str(LARGEST + 2**20)}
        configs["min.insync.replicas"] = str(max(1, copies - 1))
        if copies == 1 and not topic.startswith(TELEMETRY):
            configs["flush.messages"] = "1"  # the only copy is synced before it is acknowledged
        return {"num_partitions": self.place.partitions, "replication_factor": copies, "configs": configs}
