"""Priorities of calls under overload."""

from enum import IntEnum
from functools import cache

from aimass.v1 import options_pb2
from services.kit.contract import Method
from services.kit.errors import InvalidValue, Violation

HEADER = "x-priority"  # by which a caller lowers the priority of its call


class Priority(IntEnum):
    """The lower the number, the more urgent."""

    ADMIN = 0
    INTERACTIVE = 1
    WRITE = 2
    BATCH = 3
    SEARCH = 4


_NAMES = {one.name.lower(): one for one in Priority}
_FIXED = {
    options_pb2.PRIORITY_ADMIN: Priority.ADMIN,
    options_pb2.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
    options_pb2.PRIORITY_WRITE: Priority.WRITE,
    options_pb2.PRIORITY_BATCH: Priority.BATCH,
    options_pb2.PRIORITY_SEARCH: Priority.SEARCH,
}


@cache
def priority(method: Method) -> Priority:
    """The priority of a method: what the contract says, else by its owner and its effect."""
    policy = method.policy
    if (fixed := _FIXED.get(policy.priority)) is not None:
        return fixed
    if method.owner == "gateway":
        return Priority.ADMIN
    if policy.costly:
        return Priority.BATCH
    return Priority.INTERACTIVE if policy.effect == options_pb2.EFFECT_SAFE else Priority.WRITE


def lowered(own: Priority, header: str) -> Priority:
    """The priority of a call whose caller states one, or an empty text: it is never raised. Raises invalid_value."""
    if not header:
        return own
    if (wanted := _NAMES.get(header.lower())) is None:
        rule = f"must be one of {', '.join(_NAMES)}"
        raise InvalidValue(f"X-Priority {rule}", [Violation("/x-priority", rule)])
    return max(own, wanted)
