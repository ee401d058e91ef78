"""Callers without a key: what they may, from the door to the use case that they call.

A service is told what its call needs. Who hands out rights needs all that he has, and where he has it: in the gateway,
which settled it, that goes beside the call and not through its token.
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
    """Somebody who has no key, and all that he may in any project."""

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
