"""Events: what a bus carries."""

from dataclasses import dataclass, field
from datetime import datetime

from google.protobuf.message import Message

from services.kit import contract
from services.kit.auth import Scope
from services.kit.timestamps import uuid7

TELEMETRY = "aimass.telemetry.v1"  # the topic of OTLP batches
LARGEST = 8 * 2**20  # bytes of an event; batches of telemetry have 2 MiB, and a thing is no larger than a request
_LONGEST_ID = 36  # characters of a UUID, which is what inboxes have room for


@dataclass(frozen=True)
class Event:
    """A CloudEvent in binary mode: headers say what it is, the body is the message."""

    topic: str
    key: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    offset: int = 0
    partition: int = 0
    system: str = "aimass"  # the messaging system that delivered it: ours, or kafka

    @classmethod
    def of(cls, message: Message, scope: Scope, kind: str, name: str, source: str, now: datetime) -> "Event":
        """An event of a thing, in the current trace; its key keeps the events of one thing in order."""
        from services.kit.telemetry import traceparent  # telemetry imports this module: it is published

        subject = f"{kind}/{name}"
        headers = {
            "ce_specversion": "1.0",
            "ce_id": uuid7(),
            "ce_type": message.DESCRIPTOR.full_name,
            "ce_source": source,
            "ce_time": now.isoformat(),
            "ce_subject": subject,
            "tenant": scope.tenant,
            "project": scope.project,
        }
        if trace := traceparent():
            headers["traceparent"] = trace
        key = f"{scope.tenant}/{scope.project}/{subject}"
        return cls(contract.topic(message.DESCRIPTOR), key, message.SerializeToString(), headers)

    @property
    def id(self) -> str:
        return self.headers.get("ce_id", "")

    @property
    def type(self) -> str:
        return self.headers.get("ce_type", "")

    @property
    def scope(self) -> Scope:
        return Scope(self.headers.get("tenant", ""), self.headers.get("project", "default"))

    @property
    def size(self) -> int:
        """Bytes of key, headers and body."""
        headers_size = sum(len(name) + len(value) for name, value in self.headers.items())
        return len(self.key) + headers_size + len(self.body)

    def flaw(self) -> str:
        """Why nobody may handle it, in a word: `id` if that is bad, `tenant` if its key does not fit; else empty."""
        if not (0 < len(self.id) <= _LONGEST_ID and self.id.isascii() and self.id.isprintable()):
            return "id"
        scope = self.scope
        prefix = f"{scope.tenant}/{scope.project}/"
        return "" if scope.tenant and scope.project and self.key.startswith(prefix) else "tenant"

    def dead(self, reason: str) -> "Event":
        """This event for the dead letter topic `<topic>.dead`, with the reason and where it lay.

        One that would be too large for the bus loses its body, and headers that are long or many.
        """
        headers = self.headers | {"dead_reason": reason, "dead_from": f"{self.topic}/{self.partition}/{self.offset}"}
        found = Event(f"{self.topic}.dead", self.key, self.body, headers)
        if found.size <= LARGEST:
            return found
        short = {name[:100]: value[:1000] for name, value in list(headers.items())[-50:]}
        return Event(found.topic, self.key[:1000], b"", short | {"dead_size": str(self.size)})
