"""Cached answers, given again while their version is away: only for versions whose serving settings ask for it.

The key is the tenant, the version and the inputs, byte for byte. Other gateways find them in the shared cache.
"""

import asyncio
import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aimass.v1 import engines_pb2 as pb
from services.gateway.traffic.engines import tensors_from_wire, tensors_to_wire
from services.kit.auth import Scope
from services.kit.cache import Cache
from services.kit.errors import Failure
from services.kit.tensors import Tensor

_BYTES = 64 * 2**20  # of all answers that are kept here
_LARGEST = 64 * 2**10  # bytes of one
_WAITING = 1_000  # answers that wait to be shared; what is more stays here
_ROOM = 200  # bytes of overhead of one answer


class Question(NamedTuple):
    """What an answer was given to."""

    scope: Scope
    digest: str  # of the version
    inputs: Sequence[Tensor]
    outputs: Sequence[str]

    def key(self) -> str:
        """Its key in the cache."""
        found = hashlib.blake2b(digest_size=32)
        for tensor in self.inputs:
            about = repr((tensor.name, tensor.datatype, tuple(tensor.shape), len(tensor.raw)))
            found.update(about.encode())
            found.update(tensor.raw)
        found.update(repr((self.digest, sorted(self.outputs))).encode())
        return f"answer/{self.scope.tenant}/{self.scope.project}/{found.hexdigest()}"


class Answers:
    """The cache."""

    def __init__(self, cache: Cache, clock: Callable[[], float] = time.monotonic, most: int = _BYTES) -> None:
        """`clock` is in seconds; at most so many bytes are kept."""
        self._cache, self._clock, self._most = cache, clock, most
        self._kept: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self.size = 0
        self._unshared: asyncio.Queue[tuple[str, bytes, int]] = asyncio.Queue(_WAITING)

    def keep(self, question: Question, outputs: Sequence[Tensor], seconds: int) -> None:
        """Keeps an answer for some seconds, unless it is large. Never waits."""
        if sum([len(tensor.raw) for tensor in outputs]) > _LARGEST:
            return
        now, key = self._clock(), question.key()
        known = self._kept.get(key)
        value = _packed(outputs)
        self._put(key, value, now + seconds)
        # The same answer is shared again when half of its time is over.
        if not self._cache.near and (known is None or known[1] - now < seconds / 2):
            with contextlib.suppress(asyncio.QueueFull):
                self._unshared.put_nowait((key, value, seconds))

    async def find(self, question: Question) -> list[Tensor] | None:
        """The answer that was given to a question, here or by another gateway."""
        key = question.key()
        value, until = self._kept.get(key, (None, 0.0))
        if value is not None and until > self._clock():
            return _unpacked(value)
        if self._cache.near:
            return None
        try:
            shared = await self._cache.get(key)
        except Failure:
            return None
        return None if shared is None else _unpacked(shared)

    async def share(self) -> None:
        """Writes answers to the shared cache, for ever."""
        while True:
            key, value, seconds = await self._unshared.get()
            with contextlib.suppress(Failure):  # one answer less for them
                await self._cache.set(key, value, seconds)

    def _put(self, key: str, value: bytes, until: float) -> None:
        if old := self._kept.pop(key, None):
            self.size -= len(old[0]) + _ROOM
        self._kept[key] = value, until
        self.size += len(value) + _ROOM
        while self.size > self._most:
            _, (oldest, _) = self._kept.popitem(last=False)
            self.size -= len(oldest) + _ROOM


def _packed(outputs: Sequence[Tensor]) -> bytes:
    return pb.InferResult(outputs=tensors_to_wire(outputs)).SerializeToString()


def _unpacked(value: bytes) -> list[Tensor]:
    return tensors_from_wire(pb.InferResult.FromString(value).outputs)
