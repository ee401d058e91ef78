"""Shots in batches; between them it is looked at what is fired at."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import BrokenExecutor
from math import inf
from typing import NamedTuple, Protocol

import httpx2

from aimass import Failure
from tests.fuzz.documented import EACH, Documented
from tests.fuzz.findings import Finding, Kept
from tests.fuzz.frames import Frames
from tests.fuzz.messages import Messages
from tests.fuzz.raw import Http, Shots
from tests.fuzz.target import Target, Wrong
from tests.fuzz.vitals import Bound, Sample, growth, rising, sample

_LOOKS = 24  # at least so many looks
_BATCH = 5_000  # shots between two of them, at most
_BOUND = Bound()
_FEW = 8  # looks, of which no slope is taken
# What ends a kind: a target that cannot be looked at, or makes no room for the next shots; a child that was killed.
_ENDS = (OSError, httpx2.HTTPError, Failure, BrokenExecutor)


class Gun(Protocol):
    """What fires shots of one kind by their numbers."""

    said: Counter[str]

    async def fire(self, first: int, end: int) -> None: ...

    def close(self) -> None: ...


class Fired(NamedTuple):
    """What came of one kind."""

    kind: str
    shots: int
    seconds: float
    findings: int
    samples: list[Sample]
    said: Counter[str]

    @property
    def growth(self) -> float:
        """MiB that the last third has added."""
        return growth(self.samples, "memory")


KINDS: Mapping[str, Callable[[Target, int, Wrong], Gun]] = {
    "http": lambda target, seed, wrong: Http(target, Shots(target, seed), wrong),
    "frames": Frames,
    "messages": Messages,
    "documented": Documented,
}


class Campaign:
    """All kinds against one target."""

    def __init__(self, target: Target, kept: Kept, seed: int, bound: Bound = _BOUND) -> None:
        self._target, self._kept, self._seed, self._bound = target, kept, seed, bound

    async def run(self, kind: str, first: int, count: int, tell: Callable[[int], None], last: float = inf) -> Fired:
        """Fires `count` shots from the one with the number `first`; `tell` hears how many are done.

        On a slow machine it ends with fewer, at the time `last` of the monotonic clock.
        """
        kept, before = self._kept, len(self._kept.found)

        def wrong(number: int, what: str, data: bytes) -> None:
            kept.add(Finding(kind, self._seed, number, what, data))

        gun = await asyncio.to_thread(KINDS[kind], self._target, self._seed, wrong)
        begun, samples = time.monotonic(), [await self._look(0)]
        try:
            await self._fire(gun, first, count, wrong, samples, tell, last)
            if self._target.alive and self._rising(samples):
                # What has only just become warm stays as it is now; what is lost with each shot goes on.
                done, more = samples[-1].shots, -(-count // 2)
                await self._fire(gun, first + done, more, wrong, samples, tell, last + (last - begun) / 2)
        except _ENDS as error:
            shots = samples[-1].shots
            wrong(first + shots, f"after {shots} shots nothing could be fired: {type(error).__name__}: {error}", b"")
        finally:
            gun.close()
        for what in self._rising(samples):
            wrong(first, what, b"")
        return Fired(kind, samples[-1].shots, time.monotonic() - begun, len(kept.found) - before, samples, gun.said)

    async def _fire(
        self,
        gun: Gun,
        first: int,
        count: int,
        wrong: Wrong,
        samples: list[Sample],
        tell: Callable[[int], None],
        last: float,
    ) -> None:
        """Fires, and adds a sample for each batch."""
        before = samples[-1].shots
        async for shots in self._batches(gun, first, count, wrong):
            samples.append(await self._look(before + shots))
            tell(before + shots)
            if time.monotonic() > last:
                break

    def _rising(self, samples: list[Sample]) -> list[str]:
        return rising(samples, self._bound) if len(samples) > _FEW else []

    async def _batches(self, gun: Gun, first: int, count: int, wrong: Wrong) -> AsyncIterator[int]:
        """How many are fired, after each batch after which the target lives."""
        batch = -(-min(_BATCH, count // _LOOKS + 1) // EACH) * EACH
        for start in range(first, first + count, batch):
            upto = min(start + batch, first + count)
            await asyncio.to_thread(self._target.renew)
            try:
                await gun.fire(start, upto)
            except OSError as error:
                wrong(start, f"within {upto - start} shots a door was closed: {error}", b"")
            if found := await asyncio.to_thread(self._target.wrong):
                wrong(start, f"within {upto - start} shots: " + "\n".join(found), b"")
            if not self._target.alive:
                break
            yield upto - first

    async def _look(self, count: int) -> Sample:
        return await asyncio.to_thread(sample, self._target.pid, count, self._target.observed)

    def end(self) -> None:
        """Looks whether anything has happened to others."""
        for what in self._target.trespasses() if self._target.alive else []:
            self._kept.add(Finding("all", self._seed, 0, what, b""))
