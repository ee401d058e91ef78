"""What is left of tenants whose keys are destroyed, dropped by each process: a copy of it, rows, files that lay plain.

The store of keys says whose are destroyed, to a process that was away or was killed as to one that runs. What is
dropped is looked for again every hour: work that was under way may have written something behind the first look.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from services.kit.disk import clear
from services.kit.errors import Failure

log = logging.getLogger(__name__)
Destroyed = Callable[[], Awaitable[Sequence[str]]]
Forget = Callable[[str], Awaitable[None]]
_LOOK = 60.0  # seconds between two looks whether there is another one
_AGAIN = 10.0  # seconds after one that failed
_LOOKS = 60  # from one to the next that drops what came behind the last
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")


class Forgetting:
    """The task of a process: drops what there is of tenants whose keys are destroyed."""

    def __init__(self, destroyed: Destroyed) -> None:
        """`destroyed` says whose keys are, for all processes of the installation."""
        self._destroyed, self._done, self._looks = destroyed, set[str](), 0
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Somebody's keys were destroyed just now: looks at once."""
        self._news.set()

    async def run(self, forget: Iterable[Forget], every: float = _LOOK, again: float = _AGAIN) -> None:
        """For ever. What fails is done again, and holds up nothing else."""
        parts = list(forget)
        while True:
            self._news.clear()
            well = await self._look(parts)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every if well else again):
                    await self._news.wait()

    async def _look(self, parts: Sequence[Forget]) -> bool:
        if self._looks % _LOOKS == 0:
            self._done.clear()
        self._looks += 1
        try:
            found = [tenant for tenant in await self._destroyed() if _TENANT.match(tenant)]
        except (Failure, OSError) as failure:
            log.warning("whose keys are destroyed is seen later: %s", failure)
            return False
        for tenant in found:
            if tenant not in self._done and all([await _forgot(part, tenant) for part in parts]):
                self._done.add(tenant)
        return self._done.issuperset(found)


async def _forgot(part: Forget, tenant: str) -> bool:
    try:
        await part(tenant)
    except (Failure, OSError) as failure:
        log.warning("%s is forgotten later: %s", tenant, failure)
        return False
    except Exception:
        # A bug in one part must not keep what the others can drop.
        log.exception("%s is forgotten later", tenant)
        return False
    return True


def clearing(*folders: Path) -> Forget:
    """Drops what folders have below a tenant's name."""

    async def forget(tenant: str) -> None:
        for folder in folders:
            await asyncio.to_thread(clear, folder / tenant)

    return forget


async def nobody() -> Sequence[str]:
    """Where there are no keys, none are destroyed."""
    return ()


async def nothing(tenant: str) -> None:
    """Nothing is kept."""
