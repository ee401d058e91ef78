"""What is left of tenants whose keys are destroyed, dropped by each process: a copy of it, rows, files that lay plain.

The store of keys says whose are destroyed, to a process that was away or was killed as to one that runs. What is
dropped is looked for again with the next look, and every hour: work that was under way may write something still.
"""

import asyncio
import contextlib
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from services.kit.disk import clear
from services.kit.errors import Failure

log = logging.getLogger(__name__)
Destroyed = Callable[[], Awaitable[Sequence[str]]]
Forget = Callable[[Sequence[str]], Awaitable[None]]
_LOOK = 60.0  # seconds between two looks whether there is another one
_AGAIN = 10.0  # seconds after one that failed, twice as long each time
_TWICE = 2  # the second time what work that was under way has written behind the first
_LOOKS = 60  # from one to the next that drops what came behind the last
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")


class Forgetting:
    """The task of a process: drops what there is of tenants whose keys are destroyed."""

    def __init__(self, destroyed: Destroyed) -> None:
        """`destroyed` says whose keys are, for all processes of the installation."""
        self._destroyed = destroyed
        self._news: list[asyncio.Event] = []
        self._unanswered = ""  # why the last question could not be answered; every part asks, and one says so

    def wake(self) -> None:
        """Somebody's keys were destroyed just now: looks at once."""
        for news in self._news:
            news.set()

    async def run(self, forget: Iterable[Forget], every: float = _LOOK, again: float = _AGAIN) -> None:
        """For ever. What fails is done again; what takes long holds up nothing else."""
        async with asyncio.TaskGroup() as group:
            for part in forget:
                self._news.append(news := asyncio.Event())
                group.create_task(self._drop(part, news, every, again))

    async def _drop(self, part: Forget, news: asyncio.Event, every: float, again: float) -> None:
        looks, pause, done = 0, again, Counter[str]()
        while True:
            news.clear()
            if looks % _LOOKS == 0:
                done.clear()
            looks += 1
            well = await self._look(part, done)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every if well else pause):
                    await news.wait()
            # Later and later: it is done again for all of them, not only for the one that is in the way.
            pause = again if well else min(2 * pause, every)

    async def _look(self, part: Forget, done: Counter[str]) -> bool:
        found = list[str]()
        try:
            found = [name for name in await self._asked() if done[name] < _TWICE and _TENANT.match(name)]
            if found:
                await part(found)
        except (Failure, OSError) as failure:
            if found:
                log.warning("what %s had is dropped later: %s", ", ".join(found), failure)
            return False
        except Exception:
            # A bug must not keep for good what another try can drop.
            log.exception("what %s had is dropped later", ", ".join(found))
            return False
        done.update(found)
        return True

    async def _asked(self) -> Sequence[str]:
        """Whose keys are destroyed. Raises what the store of keys raises, which is said once until it answers."""
        try:
            found = await self._destroyed()
        except (Failure, OSError) as failure:
            if self._unanswered != str(failure):
                self._unanswered = str(failure)
                log.warning("it cannot be seen whose keys are destroyed, and is asked again: %s", failure)
            raise
        self._unanswered = ""
        return found


def each(forget: Callable[[str], Awaitable[None]]) -> Forget:
    """What drops tenants one by one: all that it can, before it says what fails."""

    async def all_of(tenants: Sequence[str]) -> None:
        failed: Exception | None = None
        for tenant in tenants:
            try:
                await forget(tenant)
            except Exception as error:
                failed = error
        if failed:
            raise failed

    return all_of


def clearing(*folders: Path) -> Forget:
    """Drops what folders have below a tenant's name."""

    async def forget(tenant: str) -> None:
        for folder in folders:
            await asyncio.to_thread(clear, folder / tenant)

    return each(forget)


async def nobody() -> Sequence[str]:
    """Where there are no keys, none are destroyed."""
    return ()


async def nothing(tenants: Sequence[str]) -> None:
    """Nothing is kept."""
