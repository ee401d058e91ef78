"""What long work may use of processors, and what it has used."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from services.kit.errors import InvalidValue, Violation

UNSET = 21_600  # seconds of processors for work that says nothing: the contract says so, too
UNSET_QUERY = 120  # the same for a query
_MOST = 10**7


class Order(NamedTuple):
    """Who asks for work, and how many seconds of processors it may use; 0: as many as the contract says."""

    principal: str = ""
    cpu_seconds: int = 0


NOBODY = Order()


@dataclass(frozen=True)
class Effort:
    """What the work of an operation may use and has used, in milliseconds; `children` by an id of each."""

    operation: str
    kind: str
    principal: str
    most_milliseconds: int
    children: Mapping[str, int]

    @property
    def left(self) -> int:
        return self.most_milliseconds - sum(self.children.values())

    @property
    def charged(self) -> int:
        """What it used; more than it was given is not charged."""
        return min(sum(self.children.values()), self.most_milliseconds)


def ordered(operation: str, kind: str, order: Order, unset: int = UNSET) -> Effort:
    """The work before it has begun. Raises invalid_value."""
    if not 0 <= order.cpu_seconds <= _MOST:
        rule = f"must lie between 0 and {_MOST}"
        raise InvalidValue(f"cpu_seconds {rule}", [Violation("/cpu_seconds", rule)])
    return Effort(operation, kind, order.principal, (order.cpu_seconds or unset) * 1000, {})
