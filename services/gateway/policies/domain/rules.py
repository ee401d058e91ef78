"""The rules of policies. One entry of each list must match, and all parts of a rule; empty parts match everything."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
ANY = "*"  # a label's value that any other is


class Effect(StrEnum):
    """Whether a rule refuses requests where its conditions hold, or where they do not."""

    DENY = "deny"
    ALLOW_ONLY = "allow_only"


@dataclass(frozen=True)
class Who:
    """The callers that a rule is about."""

    principals: tuple[str, ...] = ()
    except_principals: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class What:
    """The requests that a rule is about."""

    permissions: tuple[str, ...] = ()
    except_permissions: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Hours:
    """A part of a day, as `09:00` and `17:30`."""

    start: str
    end: str

    @property
    def minutes(self) -> tuple[int, int]:
        """From the first minute to the one after the last."""
        first, last = (int(text[:2]) * 60 + int(text[3:]) for text in (self.start, self.end))
        return first, last


@dataclass(frozen=True)
class When:
    """A time: days and hours on the clock of a zone, and the moments between two."""

    zone: str = ""
    days: tuple[str, ...] = ()
    hours: tuple[Hours, ...] = ()
    not_before: datetime | None = None
    not_after: datetime | None = None


@dataclass(frozen=True)
class Range:
    """A range of numbers, both ends included; most 0: unbounded."""

    least: int = 0
    most: int = 0

    def has(self, value: int) -> bool:
        return self.least <= value and (not self.most or value <= self.most)

    def __str__(self) -> str:
        return f"{self.least} to {self.most}" if self.most else f"at least {self.least}"


@dataclass(frozen=True)
class Rule:
    """A rule: what it is about, and its conditions."""

    name: str
    effect: Effect
    who: Who = Who()
    what: What = What()
    when: When = When()
    networks: tuple[str, ...] = ()
    rows: Range | None = None
    bytes: Range | None = None
    cost: Range | None = None
    description: str = ""

    @property
    def conditional(self) -> bool:
        """Whether it has conditions."""
        return bool(self.when != When() or self.networks or self.rows or self.bytes or self.cost)


@dataclass(frozen=True, slots=True)
class Facts:
    """A request as rules see it."""

    principal: str
    permission: str
    time: datetime
    method: str = ""
    thing: str = ""
    project: str = "default"
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    rows: int = 0
    bytes: int = 0
    cost: int = 1

    @property
    def kind(self) -> str:
        """`key` or `user`."""
        return self.principal.partition(":")[0]

    @property
    def model(self) -> str:
        """The model that it is about; empty: none."""
        return self.thing[7:] if self.thing.startswith("models/") else ""


@dataclass(frozen=True)
class Example:
    """The expected outcome of a request. Without a time it holds at the time of the test."""

    name: str
    facts: Facts
    allowed: bool
    timeless: bool = False


@dataclass(frozen=True)
class Decision:
    """The decision on a request that roles permit: the rule that refused it, if any, and the version."""

    tenant: str
    decision: str
    facts: Facts
    rule: str = ""
    version: int = 0


@dataclass(frozen=True)
class Doubt:
    """A probable mistake in a rule."""

    rule: str
    text: str


@dataclass(frozen=True)
class Version:
    """A version of a tenant's policies."""

    tenant: str
    version: int
    description: str
    rules: tuple[Rule, ...]
    examples: tuple[Example, ...]
    doubts: tuple[Doubt, ...]
    principal: str
    create_time: datetime
    test_time: datetime | None = None


@dataclass(frozen=True)
class Active:
    """The active version of a tenant's policies; 0: none."""

    tenant: str
    version: int = 0
    principal: str = ""
    activate_time: datetime | None = None
    generation: int = 0
