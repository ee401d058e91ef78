"""What a topic of Kafka says of itself as a source: its brokers, and how its records are written. Pure."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from services.data.reading.formats import Records
from services.kit.errors import InvalidValue

_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}\Z")
_HOST = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9_](?:[a-zA-Z0-9_.-]{0,251}[a-zA-Z0-9_])?)\Z")
_SERVERS = 10


class TopicFormat(StrEnum):
    """How the values of its records are written."""

    JSON = "json"
    TEXT = "text"
    BYTES = "bytes"


class Mechanism(StrEnum):
    """How a user name and a password are proved."""

    DEFAULT = ""  # SCRAM-SHA-512
    SCRAM_SHA_512 = "scram_sha_512"
    SCRAM_SHA_256 = "scram_sha_256"
    PLAIN = "plain"


class LostRecords(StrEnum):
    """What a run does when records are gone that were not read yet."""

    DEFAULT = ""  # it fails
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True)
class KafkaSource:
    """A topic, read by the offsets of its partitions. Its secrets are as the password of a `SqlSource`."""

    records: ClassVar[Records] = Records.DOCUMENTS
    bootstrap_servers: tuple[str, ...]
    topic: str
    value_format: TopicFormat
    tls: bool = False
    ca_certificates: str = ""
    client_certificate: str = ""
    client_key: str = field(default="", repr=False, compare=False)
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False, compare=False)
    sasl_mechanism: Mechanism = Mechanism.DEFAULT
    lost_records: LostRecords = LostRecords.DEFAULT

    @property
    def brokers(self) -> str:
        """What a secret belongs to: the brokers that are asked first, how it is known who they are, and who asks."""
        where, trust = ",".join(sorted(self.bootstrap_servers)), hashlib.sha256(self.ca_certificates.encode())
        mode = f"tls={self.tls} mechanism={self.sasl_mechanism} trust={trust.hexdigest()}"
        return f"kafka://{self.sasl_username}@{where} {mode}"

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "KafkaSource":
        """From plain values by the names of the fields, as they are stored and sent."""
        typed = {
            "bootstrap_servers": tuple(values["bootstrap_servers"]),
            "value_format": TopicFormat(values["value_format"]),
            "sasl_mechanism": Mechanism(values.get("sasl_mechanism", "")),
            "lost_records": LostRecords(values.get("lost_records", "")),
        }
        return cls(**{**values, **typed})


def servers(source: KafkaSource) -> Sequence[tuple[str, int]]:
    """Host and port of the brokers that are asked first. Raises invalid_value."""
    return [_server(text) for text in source.bootstrap_servers]


def _server(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not _HOST.match(host) or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise InvalidValue("bootstrap_servers must be host:port, such as kafka.example:9093")
    return host.strip("[]").lower(), int(port)


def check(source: KafkaSource) -> None:
    """Raises invalid_value for a description that no topic can have."""
    if not 0 < len(source.bootstrap_servers) <= _SERVERS:
        raise InvalidValue(f"there must be 1 to {_SERVERS} bootstrap_servers")
    servers(source)
    if not _TOPIC.match(source.topic) or source.topic in (".", ".."):
        raise InvalidValue("the topic must have 1 to 249 letters, digits, dots, underscores and hyphens")
    certified = bool(source.client_certificate or source.client_key)
    if certified and (source.sasl_username or source.sasl_password):
        raise InvalidValue("brokers know a client by a sasl_username or by a client_certificate, not by both")
    if source.client_key and not source.client_certificate:
        raise InvalidValue("a client_key needs its client_certificate")
    if (source.sasl_password or source.sasl_mechanism) and not source.sasl_username:
        raise InvalidValue("a sasl_password and a sasl_mechanism need a sasl_username")
    if (certified or source.ca_certificates) and not source.tls:
        raise InvalidValue("certificates need tls")
    if source.sasl_mechanism is Mechanism.PLAIN and not source.tls:
        raise InvalidValue("the sasl_mechanism plain sends the password as it is, so it needs tls")
