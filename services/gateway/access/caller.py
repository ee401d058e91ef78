"""Callers without a key: all that they may, carried from the door to a use case of the gateway.

The token of a call has only the permissions that the called service needs. A use case that hands out rights needs all
grants of its caller, so inside the gateway they travel beside the call.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from services.gateway.roles.domain import Grant
from services.kit.auth import Principal

_here: ContextVar["Guest | None"] = ContextVar("guest", default=None)


@dataclass(frozen=True)
class Guest(Principal):
    """A caller without a key, and its grants in all projects."""

    grants: tuple[Grant, ...] = field(default=(), compare=False, repr=False)


@contextlib.contextmanager
def speaking(principal: Principal) -> Iterator[None]:
    """While a use case of the gateway runs for a principal."""
    token = _here.set(principal if isinstance(principal, Guest) else None)
    try:
        yield
    finally:
        _here.reset(token)


def guest(caller: Principal) -> Guest | None:
    """The guest that a use case runs for, if its caller is one."""
    found = _here.get()
    return found if found and (found.id, found.scope) == (caller.id, caller.scope) else None
