"""What a bus carries."""

from dataclasses import dataclass, field
from datetime import datetime

from google.protobuf.message import Message

from services.kit import contract
from services.kit.auth import Scope
from services.kit.timestamps import uuid7

LARGEST = 8 * 2**20  # bytes of an event; telemetry comes in pieces of 2 MiB, a thing is no larger than a request
_LONGEST_ID = 36  # a UUID, as inboxes keep it


@dataclass(frozen=True)
class Event:
    """A CloudEvent in binary mode: headers say what it is, the body is the message."""

    topic: str
    key: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    offset: int = 0
    partition: int = 0
    system: str = "aimass"  # which bus brought it

    @classmethod
    def of(cls, message: Message, scope: Scope, kind: str, name: str, source: str, now: datetime) -> "Event":
        """An event of a thing, keyed so that what happens to one thing stays in order; it goes on with our trace."""
        from services.kit.telemetry import traceparent  # telemetry travels by the bus, so it imports this module

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
        said = sum(len(name) + len(value) for name, value in self.headers.items())
        return len(self.key) + said + len(self.body)

    def flaw(self) -> str:
        """A word for why nobody may handle it, whatever its body says; empty when it says who it is and whose."""
        if not (0 < len(self.id) <= _LONGEST_ID and self.id.isascii() and self.id.isprintable()):
            return "id"
        scope = self.scope
        whose = f"{scope.tenant}/{scope.project}/"
        return "" if scope.tenant and scope.project and self.key.startswith(whose) else "tenant"

    def dead(self, reason: str) -> "Event":
        """The same for `<topic>.dead`, with the reason and where it lay; what is too much for a bus is left behind."""
        headers = self.headers | {"dead_reason": reason, "dead_from": f"{self.topic}/{self.partition}/{self.offset}"}
        found = Event(f"{self.topic}.dead", self.key, self.body, headers)
        if found.size <= LARGEST:
            return found
        short = {name[:100]: value[:1000] for name, value in list(headers.items())[-50:]}
        return Event(found.topic, self.key[:1000], b"", short | {"dead_size": str(self.size)})
