"""The caller of a use case of the gateway: what its token does not carry.

The token of a call has only the permissions that the called service needs. A use case that hands out permissions needs
all grants of its caller, and one that activates policies its address: inside the gateway they travel beside the call.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from services.gateway.roles.domain import Grant
from services.kit.auth import Principal

_current: ContextVar[tuple[Principal | None, str]] = ContextVar("caller", default=(None, ""))


@dataclass(frozen=True)
class Guest(Principal):
    """A caller without a key, and its grants in all projects."""

    grants: tuple[Grant, ...] = field(default=(), compare=False, repr=False)


@contextlib.contextmanager
def calling(principal: Principal, address: str) -> Iterator[None]:
    """While a use case of the gateway runs for a principal."""
    token = _current.set((principal, address))
    try:
        yield
    finally:
        _current.reset(token)


def guest(caller: Principal) -> Guest | None:
    """The guest that a use case runs for, if its caller is one."""
    found, _ = _current.get()
    return found if isinstance(found, Guest) and (found.id, found.scope) == (caller.id, caller.scope) else None


def address() -> str:
    """The address of the caller, as its door gives it; empty when it is not known."""
    return _current.get()[1]
