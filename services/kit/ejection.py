"""Outlier ejection: an instance whose calls go worse than those of the others is left out for a while.

Outcomes are counted as calls end (`Member`), without extra calls. The first ejection is short, each next one longer; an
instance that is like the others again is forgiven step by step.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection

from services.kit.member import Member
from services.kit.outliers import EjectionRules, Record, outliers
from services.kit.pool import Pool

log = logging.getLogger(__name__)
_LOOK = 0.5  # seconds between looks for those whose time is over


class Ejection:
    """The ejected instances of one service."""

    def __init__(
        self, pool: Pool, rules: Callable[[], EjectionRules], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`rules` says how to judge now; `clock` is in seconds and never goes back."""
        self._pool, self._rules, self._clock = pool, rules, clock
        self._judged = clock()
        # How often each has been left out, less the times that it was seen to be well.
        self._times = dict[Member, int]()
        # The records of ejected instances: one that has connected again has another record.
        self._records = dict[Member, Record]()

    def look(self) -> None:
        """Ends ejections whose time is over or whose instance has connected again; judges all after each interval."""
        rules, now = self._rules(), self._clock()
        self._let_in(now if rules.share else float("inf"))
        self._pool.share = rules.share
        if now - self._judged >= rules.interval:
            self._judged = now
            self._judge(rules, now)

    def _let_in(self, now: float) -> None:
        pool, members = self._pool, set(self._pool.members)
        stay = {one for one, until in pool.ejected.items() if until > now and one.record is self._records[one]}
        for member in (pool.ejected.keys() - stay) & members:
            member.record = Record(bool(member.record.times))
            log.warning("%s at %s is called again", pool.service, member.instance.address)
        if pool.ejected:
            pool.ejected = {one: until for one, until in pool.ejected.items() if one in stay & members}
            self._records = {one: self._records[one] for one in pool.ejected}

    def _judge(self, rules: EjectionRules, now: float) -> None:
        pool, seen = self._pool, dict[Member, Record]()
        for member in pool.members:
            if member not in pool.ejected:
                seen[member], member.record = member.record, Record(rules.slower is not None)
        found = outliers(seen, rules)
        self._times = {member: self._times.get(member, 0) for member in pool.members}
        for member, record in seen.items():
            if member not in found and record.calls >= rules.calls:
                self._times[member] = max(self._times[member] - 1, 0)
        room = int(rules.share * sum(member.connected for member in pool.members)) - len(pool.ejected)
        for member, why in list(found.items())[: max(room, 0)]:
            self._times[member] += 1
            seconds = min(rules.time * self._times[member], rules.longest)
            pool.ejected, self._records[member] = {**pool.ejected, member: now + seconds}, member.record
            log.warning("%s at %s is left out for %g s: %s", pool.service, member.instance.address, seconds, why)

    def end(self) -> None:
        """Ends all ejections."""
        self._pool.ejected = {}


async def watch(pools: Callable[[], Collection[Pool]], rules: Callable[[str], EjectionRules]) -> None:
    """Ejects outliers of each service, for ever."""
    known = dict[Pool, Ejection]()
    try:
        while True:
            for pool in pools():
                if pool not in known:
                    known[pool] = Ejection(pool, lambda service=pool.service: rules(service))  # type: ignore[misc]
                known[pool].look()
            await asyncio.sleep(_LOOK)
    finally:
        for ejection in known.values():
            ejection.end()
