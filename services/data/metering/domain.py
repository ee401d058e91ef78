"""How much processor time long work may use, and how much it has used."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from services.kit.errors import InvalidValue, Violation

DEFAULT_SECONDS = 21_600  # of processors, for work that names none; the contract has the same number
DEFAULT_QUERY_SECONDS = 120  # the same for a query
_MOST = 10**7


class CpuBudget(NamedTuple):
    """Who asks for work, and how many seconds of processors it may use; 0: as many as the contract says."""

    principal: str = ""
    cpu_seconds: int = 0


DEFAULT_BUDGET = CpuBudget()


@dataclass(frozen=True)
class CpuUsage:
    """What the work of an operation may use, and what each of its children has used, in milliseconds."""

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


def unused(operation: str, kind: str, budget: CpuBudget, default: int = DEFAULT_SECONDS) -> CpuUsage:
    """The usage of work that has not begun. Raises invalid_value."""
    if not 0 <= budget.cpu_seconds <= _MOST:
        rule = f"must lie between 0 and {_MOST}"
        raise InvalidValue(f"cpu_seconds {rule}", [Violation("/cpu_seconds", rule)])
    return CpuUsage(operation, kind, budget.principal, (budget.cpu_seconds or default) * 1000, {})
