"""Audits predictions that rules refuse: each caller, model and rule once in a while, off the hot path."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from services.gateway.policies.domain.rules import Facts
from services.kit.auth import Principal
from services.kit.errors import Code

_EVERY = 1.0  # seconds between two looks at what waits
_AGAIN = 10  # looks after which the same is audited again
Trail = Callable[..., Awaitable[None]]  # Trail.add of `access`
_MOST = 1000  # that wait; more are refused without an audit event


class _Key(NamedTuple):
    principal: Principal
    method: str
    thing: str
    rule: str


class Refusals:
    """Takes what is refused; never waits."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._waiting: dict[_Key, tuple[str, str]] = {}
        self._audited: dict[_Key, int] = {}  # those of late, and for how many looks more they are not audited again

    def note(self, principal: Principal, request_id: str, facts: Facts, rule: str) -> None:
        """Takes a refused prediction."""
        key = _Key(principal, facts.method, facts.thing, rule)
        if key not in self._audited and len(self._waiting) < _MOST:
            self._waiting.setdefault(key, (request_id, facts.address))

    async def tell_for_ever(self) -> None:
        """Writes what waits, again and again."""
        while True:
            await asyncio.sleep(_EVERY)
            await self.tell()

    async def tell(self) -> None:
        """Writes what waits."""
        waiting, self._waiting = self._waiting, {}
        self._audited = {key: left - 1 for key, left in self._audited.items() if left} | dict.fromkeys(
            waiting, _AGAIN - 1
        )
        for key, (request_id, address) in waiting.items():
            fields = {"outcome": Code.FORBIDDEN.text, "address": address}
            await self._trail(key.principal, request_id, key.method, key.thing, **fields)
