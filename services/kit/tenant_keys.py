"""Keys of tenants as a process holds them: made when first needed, changed by number, destroyed with their tenant."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from services.kit.errors import Code, FailedPrecondition, Failure, Unavailable
from services.kit.key_store import GONE, KeyStore
from services.kit.renewing import EVERY, Kept, Renewed, keep_renewing, renew
from services.kit.sealed import Key
from services.kit.secrets import Vault

log = logging.getLogger(__name__)
_LOOK = 10.0  # seconds between two looks of `follow`, which keep all that is held fresh
_FRESH = 15.0  # seconds for which keys are believed without a look; a tenant's end counts everywhere after them


class KeysDestroyed(FailedPrecondition):
    """The keys of a tenant are destroyed, for good."""


class KeyMissing(FailedPrecondition):
    """A tenant has keys, and not the one of this number."""


@dataclass(frozen=True)
class _Ring:
    """The keys of a tenant, open, and when they were read."""

    keys: Mapping[int, Key]
    read: float
    gone: bool = False


class TenantKeys:
    """The keys of tenants as a process holds them. What it has it keeps while the store is away."""

    def __init__(self, store: KeyStore, vault: Vault, ticks: Callable[[], float] = time.monotonic) -> None:
        """`ticks` gives seconds that nobody sets."""
        self._store, self._vault, self._ticks = store, vault, ticks
        self._rings: dict[str, _Ring] = {}

    async def current(self, tenant: str) -> Key:
        """What a tenant's bytes are sealed with now; made when it is first needed.

        Raises failed_precondition when they are destroyed, unavailable.
        """
        while not (ring := await self._ring(tenant)).keys:
            await self._add(tenant, 1)
        return ring.keys[max(ring.keys)]

    async def find(self, tenant: str, number: int) -> Key:
        """The key of this number. Raises failed_precondition when it is destroyed or was never there, unavailable."""
        ring = await self._ring(tenant)
        if number not in ring.keys:
            ring = await self._read(tenant)  # another process has made it just now
        if number not in ring.keys:
            raise KeyMissing(f"key {number} of {tenant} is not there: its bytes cannot be opened any more")
        return ring.keys[number]

    def held(self, tenant: str, number: int = 0) -> Key | None:
        """What seals now, or the key of a number, as far as is known without a look; None: ask for it.

        Who asks so runs `follow`. Raises KeysDestroyed.
        """
        if not (ring := self._rings.get(tenant)):
            return None
        keys = self._alive(tenant, ring).keys
        return keys.get(number or max(keys, default=0))

    async def follow(self, every: float = _LOOK) -> None:
        """The task that looks, for all tenants at once, what has become of the keys that are held."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.look()
            except (Failure, OSError) as failure:
                log.warning("keys of tenants are believed as they were: %s", failure)

    async def look(self) -> None:
        """Reads the keys of tenants that have others than are held. Raises unavailable, OSError."""
        began, found = self._ticks(), await self._store.numbers()
        for tenant, ring in [(tenant, ring) for tenant, ring in self._rings.items() if not ring.gone]:
            if ring.keys.keys() != set(found.get(tenant, ())):
                try:
                    await self._read(tenant)
                except KeysDestroyed:
                    continue  # now that is known
                except Failure as failure:
                    if failure.code is not Code.FAILED_PRECONDITION:
                        raise
                    log.warning("%s", failure)  # one that does not open must not hold up what is known of others
            elif self._rings[tenant] is ring:
                self._rings[tenant] = replace(ring, read=max(began, ring.read))

    async def rotate(self, tenant: str, number: int) -> int:
        """Makes a key behind the one of this number, if that is the one that seals; returns the number of what seals.

        New bytes are sealed with it from now on, everywhere within seconds. Raises failed_precondition, unavailable.
        """
        await self.current(tenant)
        if max((await self._read(tenant)).keys) == number:
            await self._add(tenant, number + 1)
        return (await self.current(tenant)).number

    async def rewrap(self) -> AsyncIterator[tuple[int, int, int]]:
        """Wraps every key with the installation's first key that is not.

        After each tenant, how many of how many, and how many of their keys stay as they are.
        Broken off anywhere, it can be done again. One that no key opens stays as it is, and the log says so.
        """
        tenants, left = await self._store.tenants(), 0
        for done, tenant in enumerate(tenants, 1):
            left += await self._rewrap(tenant)
            yield done, len(tenants), left

    async def _rewrap(self, tenant: str) -> int:
        found, seen = await self._store.load(tenant), Renewed()
        if GONE not in found:
            seen = await renew(self._vault, [self._kept(tenant, *one) for one in found.items()])
            if not seen.done:
                return seen.left
            found = await self._store.load(tenant, found)
        if GONE in found and len(found) > 1:
            await self._store.destroy(tenant)  # also what was just put back
        return seen.left

    def _kept(self, tenant: str, number: int, wrapped: bytes) -> Kept:
        put = partial(self._store.replace, tenant, number)
        return Kept(f"key {number} of {tenant}", _context(tenant, number), wrapped, put)

    async def renew(self, every: float = EVERY) -> None:
        """The task of the service that owns blobs: while an old key is given, wraps anew what it has wrapped."""

        async def look() -> int:
            return max([left async for *_, left in self.rewrap()], default=0)

        await keep_renewing(self._vault, "keys of tenants", look, every)

    async def shred(self, tenant: str) -> None:
        """Destroys a tenant's keys, for good: what they sealed cannot be opened, and nothing is sealed again."""
        await self._store.destroy(tenant)
        self._rings[tenant] = _Ring({}, self._ticks(), gone=True)

    async def _ring(self, tenant: str) -> _Ring:
        known = self._rings.get(tenant)
        if known and self._ticks() - known.read < _FRESH:
            return self._alive(tenant, known)
        try:
            return await self._read(tenant)
        except Unavailable:
            if known is None:
                raise
            return self._alive(tenant, known)

    async def _read(self, tenant: str) -> _Ring:
        known = self._rings.get(tenant)
        had = known.keys if known else {}
        found = await self._store.load(tenant, had)
        kept = {number for number in found if number != GONE} if GONE not in found else set[int]()
        keys = {number: had.get(number) or self._open(tenant, number, found[number]) for number in kept}
        ring = self._rings[tenant] = _Ring(keys, self._ticks(), GONE in found)
        return self._alive(tenant, ring)

    def _alive(self, tenant: str, ring: _Ring) -> _Ring:
        if ring.gone:
            raise KeysDestroyed(f"the keys of {tenant} are destroyed: what they sealed cannot be opened any more")
        return ring

    async def _add(self, tenant: str, number: int) -> bool:
        wrapped = self._vault.seal(os.urandom(32), _context(tenant, number))
        added = await self._store.add(tenant, number, wrapped)
        try:
            await self._read(tenant)  # of two processes one was first
        except KeysDestroyed:
            await self._store.destroy(tenant)  # it has come to its end meanwhile: also what was just put there
            raise
        return added

    def _open(self, tenant: str, number: int, wrapped: bytes) -> Key:
        try:
            return Key(number, self._vault.open(wrapped, _context(tenant, number)))
        except ValueError:
            text = f"key {number} of {tenant} does not open: AIMASS_SECRETS_KEY is not the one that it was wrapped with"
            raise Failure(Code.FAILED_PRECONDITION, text) from None


def _context(tenant: str, number: int) -> str:
    return f"tenant-key/{tenant}/{number}"
