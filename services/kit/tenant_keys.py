"""Keys of tenants, cached by a process: created when first needed, rotated by number, destroyed with their tenant."""

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
_LOOK = 10.0  # seconds between two looks of `follow`, which refresh all cached keys
_FRESH = 15.0  # seconds for which cached keys are used without a look; after them a destruction counts everywhere


class KeysDestroyed(FailedPrecondition):
    """The keys of a tenant have been destroyed."""


class KeyMissing(FailedPrecondition):
    """A tenant has keys, but none of this number."""


@dataclass(frozen=True)
class _Ring:
    """The unwrapped keys of a tenant, and when they were read."""

    keys: Mapping[int, Key]
    read: float
    gone: bool = False


class TenantKeys:
    """The keys of tenants. Cached keys are used on while the store is away."""

    def __init__(self, store: KeyStore, vault: Vault, ticks: Callable[[], float] = time.monotonic) -> None:
        """`ticks` is a monotonic clock in seconds."""
        self._store, self._vault, self._ticks = store, vault, ticks
        self._rings: dict[str, _Ring] = {}

    async def current(self, tenant: str) -> Key:
        """The key that a tenant's bytes are sealed with now; created when there is none.

        Raises KeysDestroyed, unavailable.
        """
        while not (ring := await self._ring(tenant)).keys:
            await self._add(tenant, 1)
        return ring.keys[max(ring.keys)]

    async def find(self, tenant: str, number: int) -> Key:
        """The key of this number. Raises KeysDestroyed, KeyMissing, unavailable."""
        ring = await self._ring(tenant)
        if number not in ring.keys:
            ring = await self._read(tenant)  # another process has made it just now
        if number not in ring.keys:
            raise KeyMissing(f"key {number} of {tenant} is not there: its bytes cannot be opened any more")
        return ring.keys[number]

    def held(self, tenant: str, number: int = 0) -> Key | None:
        """The cached key of a number, or the current one; None: use `find` or `current`. Raises KeysDestroyed.

        It does not look into the store, so a process that uses it must run `follow`.
        """
        if not (ring := self._rings.get(tenant)):
            return None
        keys = self._alive(tenant, ring).keys
        return keys.get(number or max(keys, default=0))

    async def follow(self, every: float = _LOOK) -> None:
        """The task that refreshes all cached keys."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.look()
            except (Failure, OSError) as failure:
                log.warning("keys of tenants are used as they were: %s", failure)

    async def look(self) -> None:
        """Reads the keys of tenants whose numbers have changed in the store. Raises unavailable, OSError."""
        began, found = self._ticks(), await self._store.numbers()
        for tenant, ring in [(tenant, ring) for tenant, ring in self._rings.items() if not ring.gone]:
            if ring.keys.keys() != set(found.get(tenant, ())):
                try:
                    await self._read(tenant)
                except KeysDestroyed:
                    continue  # that is now cached
                except Failure as failure:
                    if failure.code is not Code.FAILED_PRECONDITION:
                        raise
                    log.warning("%s", failure)  # one that does not open must not keep others from being refreshed
            elif self._rings[tenant] is ring:
                self._rings[tenant] = replace(ring, read=max(began, ring.read))

    async def rotate(self, tenant: str, number: int) -> int:
        """Creates the next key if the one of this number is the current one; returns the current number.

        All processes seal new bytes with it within seconds. Raises failed_precondition, unavailable.
        """
        await self.current(tenant)
        if max((await self._read(tenant)).keys) == number:
            await self._add(tenant, number + 1)
        return (await self.current(tenant)).number

    async def rewrap(self) -> AsyncIterator[tuple[int, int, int]]:
        """Wraps keys that an old key of the installation has wrapped with its current one.

        Yields after each tenant: how many are done, of how many, and how many keys could not be rewrapped, which the
        log says. It can be repeated after any interruption.
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
            await self._store.destroy(tenant)  # destroyed meanwhile: what was just written must go as well
        return seen.left

    def _kept(self, tenant: str, number: int, wrapped: bytes) -> Kept:
        put = partial(self._store.replace, tenant, number)
        return Kept(f"key {number} of {tenant}", _context(tenant, number), wrapped, put)

    async def renew(self, every: float = EVERY) -> None:
        """The task, of the service that owns blobs, that rewraps keys while an old key is configured."""

        async def look() -> int:
            return max([left async for *_, left in self.rewrap()], default=0)

        await keep_renewing(self._vault, "keys of tenants", look, every)

    async def shred(self, tenant: str) -> None:
        """Destroys a tenant's keys for good: what they have sealed cannot be opened, and nothing is sealed again."""
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
            await self._read(tenant)  # another process may have been first
        except KeysDestroyed:
            await self._store.destroy(tenant)  # destroyed meanwhile: what was just written must go as well
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
