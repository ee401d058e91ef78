"""What is known of the columns of a table from the conditions of a query. Pure."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

Kind = Literal["number", "string", "boolean", "date", "timestamp"]


class Constant(NamedTuple):
    """A literal."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Among:
    """A column has one of these values; it is not NULL."""

    column: str
    values: tuple[Constant, ...]


@dataclass(frozen=True)
class Between:
    """A column lies between two values, or at one; it is not NULL. None: there is no such bound."""

    column: str
    low: Constant | None = None
    high: Constant | None = None


@dataclass(frozen=True)
class Null:
    """A column is NULL, or is not."""

    column: str
    holds: bool


@dataclass(frozen=True)
class All:
    """All of these hold; of none, nothing is known."""

    parts: tuple["Condition", ...] = ()


@dataclass(frozen=True)
class Some:
    """At least one of these holds."""

    parts: tuple["Condition", ...]


Condition: TypeAlias = Among | Between | Null | All | Some
ANYTHING = All()
