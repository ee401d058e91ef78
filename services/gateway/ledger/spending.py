"""The use of predictions: slices of the ledger are reserved ahead, spent in memory, and settled many at a time.

A slice is an entry of the ledger that is committed before anything of it is spent. A caller with a quota waits for its
first slice. One without never waits: its use before the first slice, or while the database is away, is tallied and
written later.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from services.gateway.ledger.account import Account, Hold, Need, Owner, Slice
from services.gateway.ledger.book import Quotabook
from services.gateway.ledger.domain import SERVING, Amounts, Claim, Entry
from services.kit.auth import Scope
from services.kit.errors import Code, Failure, Unavailable
from services.kit.timestamps import uuid7

log = logging.getLogger(__name__)
LEASE = 120.0  # seconds after which a slice that was not settled is charged in full
_MARGIN = 20.0  # seconds before that from which it is not spent
SETTLE = 2.0  # seconds after which a slice that is in use is settled, and of rest after which any is
TICK = 0.25  # seconds between looks at what is to be settled
_AGAIN = 1.0  # seconds until a database that is away is asked again
_REFUSED = 0.5  # seconds that a refusal holds without asking
_PATIENCE = 5.0  # seconds that a request waits for a slice
_FORGET = 5.0  # seconds of rest after which an account is forgotten
_AHEAD = Need(0)  # of a slice that no request waits for
Used = Sequence[tuple[Entry, Amounts]]


class Entries(Protocol):
    """The ledger."""

    def reserve(self, claims: Sequence[Claim]) -> Awaitable[list[Entry | Failure]]:
        """An entry for each claim, or why there is none. Raises unavailable."""

    def settle(self, used: Used, tallies: Sequence[Entry]) -> Awaitable[list[Entry]]:
        """Charges what was used. Raises unavailable."""


class Spending:
    """The accounts of this gateway."""

    def __init__(
        self, entries: Entries, book: Quotabook, instance: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`instance` is this gateway; `clock` gives seconds and never goes back."""
        self._entries, self._book, self._instance, self._clock = entries, book, instance, clock
        self._accounts: dict[tuple[Scope, str, str], Account] = {}
        self._wishes: dict[Owner, Account] = {}
        # What could not be written yet.
        self._used: list[tuple[Entry, Amounts]] = []
        self._tallies: list[Entry] = []
        self._news = asyncio.Event()
        self._away = False

    def take(self, scope: Scope, principal: str, model: str, rows: int, tokens: int = 0) -> Hold | None:
        """Takes a request and what it needs; None where only `wait` can tell. Raises quota_exceeded, unavailable."""
        now, need = self._clock(), Need(rows, tokens)
        account = self._accounts.get((scope, principal, model))
        if account is None:
            account = self._open(Owner(scope, principal, model), now)
        account.last = now
        part = account.take(need, now)
        if part is not None:
            if account.wanted is None and account.next is None and part.low:
                self._wish(account, _AHEAD, now)
            return Hold(part, need)
        if account.turn != self._book.turn:
            account.turn = self._book.turn
            account.limited, account.refusal = self._book.limits(scope.tenant, scope.project, principal), None
        if account.limited:
            if (refusal := account.turned_away(need, now)) is not None:
                raise Failure(refusal.code, refusal.detail, retry_after=refusal.retry_after)
            return None
        account.tally.flying += 1
        if account.wanted is None:
            self._wish(account, need, now)
        return Hold(account.tally, need)

    async def wait(self, scope: Scope, principal: str, model: str, rows: int, tokens: int = 0) -> Hold:
        """Takes, and waits for a slice when there is none. Raises quota_exceeded, unavailable."""
        if (hold := self.take(scope, principal, model, rows, tokens)) is not None:
            return hold
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while True:  # others may spend what came
                    if (hold := self.take(scope, principal, model, rows, tokens)) is not None:
                        return hold
                    account = self._accounts[scope, principal, model]
                    account.want(Need(rows, tokens))
                    self._wishes[account.owner] = account
                    self._news.set()
                    if account.waiting is None:
                        account.waiting = asyncio.get_running_loop().create_future()
                    await asyncio.shield(account.waiting)
        raise Unavailable(f"the quota for {model} cannot be asked for now", retry_after=1)

    def _open(self, owner: Owner, now: float) -> Account:
        account = self._accounts[owner] = Account(owner, now)
        self._news.set()
        return account

    def _wish(self, account: Account, need: Need, now: float) -> None:
        """Asks for a slice ahead of need, unless one was refused a moment ago."""
        if now >= account.away and now >= account.refused[0]:
            account.wanted = need
            self._wishes[account.owner] = account
            self._news.set()

    async def run(self) -> None:
        """Reserves and settles for ever."""
        swept = self._clock()
        while True:
            if not self._wishes:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK if self._accounts or self._used or self._tallies else None):
                        await self._news.wait()
            self._news.clear()
            await self.reserve()
            if self._clock() - swept >= TICK:
                await self.sweep()
                swept = self._clock()

    async def reserve(self) -> None:
        """Reserves a slice for each account that asks for one.

        A caller that is refused while it holds slices, for this model or another, gives them back and asks again.
        """
        wishes, self._wishes = list(self._wishes.values()), {}
        if not wishes:
            return
        refused = await self._reserve(wishes)
        again = [account for account in refused if account.waiting is not None and self._give_back(account)]
        if again:
            await self._write()
            await self._reserve(again)
        for account in wishes:
            account.wanted = None
            if account.waiting is not None:
                account.waiting.set_result(None)
                account.waiting = None

    def _give_back(self, refused: Account) -> bool:
        """Queues what a caller holds and does not use now to be settled; False if that is nothing."""
        now, before = self._clock(), len(self._used)
        for account in self._accounts.values():
            if account.owner[:2] == refused.owner[:2]:
                account.turn_over(now)
                account.turn_over(now)
                self._collect(account, now)
        return len(self._used) > before

    async def _reserve(self, wishes: Sequence[Account]) -> list[Account]:
        """Asks the ledger; returns the accounts that it refused."""
        began, claims = self._clock(), [self._claim(account) for account in wishes]
        try:
            found: Sequence[Entry | Failure] = await self._entries.reserve(claims)
            self._back()
        except BaseException as error:
            # An entry that was made all the same is given back.
            self._used += [(claim.entry, Amounts()) for claim in claims]
            if not isinstance(error, Failure):
                raise
            self._gone(error)
            found = [error] * len(wishes)
        for account, claim, entry in zip(wishes, claims, found, strict=True):
            self._reserved(account, claim, entry, began)
        return [account for account in wishes if account.refusal and account.refusal.code is Code.QUOTA_EXCEEDED]

    def _claim(self, account: Account) -> Claim:
        scope, principal, model = account.owner
        requests, rows, tokens = account.size
        need = account.wanted or _AHEAD
        least = Amounts(1, max(need.rows, 1), tokens=need.tokens)
        wanted = Amounts(requests, max(rows, least.rows), tokens=max(tokens, least.tokens))
        entry = Entry(uuid7(), scope.tenant, scope.project, principal, SERVING, model, wanted, owner=self._instance)
        return Claim(entry, least, LEASE)

    def _reserved(self, account: Account, claim: Claim, entry: Entry | Failure, began: float) -> None:
        now = self._clock()
        if isinstance(entry, Entry):
            account.put(Slice(entry, now, began + LEASE - _MARGIN))
            account.refusal, account.refused = None, (0.0, _AHEAD)
        elif account.waiting is None:
            account.away = now + _REFUSED  # what was wished for ahead may be had when it is needed
        elif entry.code is Code.QUOTA_EXCEEDED:
            account.refusal = entry
            account.refused = now + _REFUSED, Need(claim.least.rows, claim.least.tokens)
        else:
            account.refusal, account.refused, account.away = entry, (now + _AGAIN, _AHEAD), now + _AGAIN

    async def sweep(self) -> None:
        """Settles what has ended or has been open for long, and forgets accounts that rest."""
        now = self._clock()
        for key, account in list(self._accounts.items()):
            self._age(account, now)
            self._collect(account, now)
            if now - account.last > _FORGET and account.idle:
                del self._accounts[key]
        await self._write()

    def _age(self, account: Account, now: float) -> None:
        part = account.slice
        if part is None:
            return
        if now - account.last > SETTLE:
            account.turn_over(now)
            account.turn_over(now)
        elif now - part.began > SETTLE and (part.used_requests or part.flying):
            if account.next is not None or now - part.began > 2 * SETTLE:
                account.turn_over(now)
            elif account.wanted is None:
                self._wish(account, _AHEAD, now)

    def _collect(self, account: Account, now: float) -> None:
        """Queues what can be settled."""
        for part in [part for part in account.ended if not part.flying or now >= part.until]:
            account.ended.remove(part)
            assert part.entry
            # What is under way at the end of its time is charged: it will have been used.
            self._used.append((part.entry, part.taken()))
        tally = account.tally
        if tally.used_requests:
            scope, principal, model = account.owner
            used = Entry(
                uuid7(),
                scope.tenant,
                scope.project,
                principal,
                SERVING,
                model,
                reserved=Amounts(),
                owner=self._instance,
                used=tally.used(),
            )
            self._tallies.append(used)
            tally.used_requests = tally.used_rows = tally.used_tokens = 0

    async def _write(self) -> None:
        used, tallies = self._used[:], self._tallies[:]
        if not used and not tallies:
            return
        try:
            await self._entries.settle(used, tallies)
        except Failure as failure:
            self._gone(failure)
            return
        self._back()
        del self._used[: len(used)], self._tallies[: len(tallies)]

    def _gone(self, failure: Failure) -> None:
        if not self._away:
            log.warning("the ledger is not written for now: %s", failure)
        self._away = True

    def _back(self) -> None:
        if self._away:
            log.warning("the ledger is written again")
        self._away = False

    async def close(self) -> None:
        """Settles everything. What cannot be written now is charged in full after its lease."""
        now = self._clock()
        for account in self._accounts.values():
            account.turn_over(now)
            account.turn_over(now)
            for part in account.ended:
                part.until = now
            self._collect(account, now)
        await self._write()
        if self._used or self._tallies:
            lost = sum(entry.used.requests for entry in self._tallies)
            log.error("the ledger misses %d requests, and %d slices are charged in full", lost, len(self._used))
