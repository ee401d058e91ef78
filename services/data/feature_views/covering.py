"""How rows lie in a store: keys as hashes, features encrypted under the tenant key, both of one version of a view only.

A store thus tells neither which entities there are nor what is known of them, and shredding a tenant makes its rows
unreadable wherever a copy of them is.
"""

import hmac
import os
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.data.feature_views.places import Place
from services.kit.errors import Code, Failure
from services.kit.sealed import Key
from services.kit.tenant_keys import TenantKeys

KEY = 16  # bytes of a hash: two entities with one hash are not found by chance
_NUMBER, _NONCE = 4, 12
_HEAD = _NUMBER + _NONCE
_MOST = 1000  # covers that are kept
_FIRST = 1  # of the keys of a tenant: hashes stay the same when a tenant's key is rotated


class Cover:
    """Hashes keys, seals and opens features, of one place. It asks nobody, so it may be used in any thread."""

    def __init__(self, place: Place, keys: Mapping[int, Key]) -> None:
        """`keys` are those of the tenant by number; without any, rows lie plain."""
        self._place, self._keys, self.newest = place, keys, max(keys, default=0)
        self._hashing = _derived(keys[_FIRST], place, "keys") if keys else b""
        self._ciphers: dict[int, AESGCM] = {}

    def hash(self, key: bytes) -> bytes:
        """What a key is stored as."""
        if not self._hashing:
            return sha256(key).digest()[:KEY]
        return hmac.digest(self._hashing, key, "sha256")[:KEY]

    def sealed(self, key: bytes, event_time: int, plain: bytes) -> bytes:
        """Features of an entity, by its hash, and of a time; they open as those only."""
        if not self.newest:
            return plain
        # Random, because what is materialised twice is sealed twice; 2^32 rows under one key are few enough for it.
        number, nonce = self.newest.to_bytes(_NUMBER, "big"), os.urandom(_NONCE)
        return number + nonce + self._cipher(self.newest).encrypt(nonce, plain, _about(number, key, event_time))

    def opened(self, key: bytes, event_time: int, sealed: bytes) -> bytes:
        """The features again. Raises digest_mismatch for what was changed, or is of another entity or time."""
        if not self.newest:
            return sealed
        number, nonce, rest = sealed[:_NUMBER], sealed[_NUMBER:_HEAD], sealed[_HEAD:]
        try:
            return self._cipher(_number(sealed)).decrypt(nonce, rest, _about(number, key, event_time))
        except (InvalidTag, ValueError, KeyError):
            text = f"a row of {self._place.feature_view} has been damaged in its store"
            raise Failure(Code.DIGEST_MISMATCH, text) from None

    def lacks(self, sealed: Iterable[bytes]) -> int:
        """The number of a key that opens some of this and is not known yet; 0 for none."""
        newest = max(map(_number, sealed), default=0) if self.newest else 0
        return newest if newest > self.newest else 0

    def _cipher(self, number: int) -> AESGCM:
        if number not in self._ciphers:
            self._ciphers[number] = AESGCM(_derived(self._keys[number], self._place, "features"))
        return self._ciphers[number]


class Covers:
    """The cover of each place, made once for each set of keys."""

    def __init__(self, keys: TenantKeys | None) -> None:
        """Without `keys` everything lies plain, as blobs do then."""
        self._keys = keys
        self._made: dict[Place, Cover] = {}

    async def of(self, place: Place, number: int = 0) -> Cover:
        """A cover that also knows the key of this number. Raises KeysDestroyed, KeyMissing, unavailable."""
        if self._keys is None:
            return Cover(place, {})
        tenant = place.scope.tenant
        newest = max((await self._keys.current(tenant)).number, number)
        known = self._made.get(place)
        if known and known.newest >= newest:
            return known
        keys = {each: await self._keys.find(tenant, each) for each in range(_FIRST, newest + 1)}
        if len(self._made) >= _MOST:
            self._made.clear()
        self._made[place] = made = Cover(place, keys)
        return made

    async def forget(self, tenants: Sequence[str]) -> None:
        """Drops the keys of shredded tenants."""
        self._made = {place: made for place, made in self._made.items() if place.scope.tenant not in tenants}


def _number(sealed: bytes) -> int:
    return int.from_bytes(sealed[:_NUMBER], "big")


def _about(number: bytes, key: bytes, event_time: int) -> bytes:
    return number + key + event_time.to_bytes(8, "big", signed=True)


def _derived(key: Key, place: Place, use: str) -> bytes:
    scope, view, version = place
    about = "\0".join(("aimass features 1", use, *scope, view, str(version))).encode()
    return HKDF(SHA256(), 32, None, about).derive(key.secret)
