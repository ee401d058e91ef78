"""What an old key of the installation has sealed, sealed with the one that seals now, while an old one is given."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from services.kit.errors import Failure
from services.kit.secrets import Vault

log = logging.getLogger(__name__)
EVERY = 3600.0  # seconds between two looks
AGAIN = 10.0  # seconds after one that failed


class Kept(NamedTuple):
    """A secret as it is kept: what it is called in the log, its context, its bytes, and how others take their place."""

    called: str
    context: str
    sealed: bytes
    replace: Callable[[bytes], Awaitable[Any]]


class Renewed(NamedTuple):
    """How many secrets are sealed anew, and how many stay as they are."""

    done: int = 0
    left: int = 0


async def renew(vault: Vault, secrets: Iterable[Kept]) -> Renewed:
    """Seals with the key that seals now what another has sealed. One that no key opens stays as it is."""
    done = left = 0
    for kept in secrets:
        if not kept.sealed or vault.is_current(kept.sealed):
            continue
        try:
            new = vault.seal(vault.open(kept.sealed, kept.context), kept.context)
        except ValueError as error:
            log.error("%s stays as it is: %s", kept.called, error)
            left += 1
        else:
            await kept.replace(new)
            done += 1
    return Renewed(done, left)


async def keep_looking(
    look: Callable[[], Awaitable[object]],
    late: str,
    every: float,
    again: float = AGAIN,
    while_true: Callable[[], bool] = lambda: True,
) -> None:
    """Looks at its start and again and again, and sooner when a store was away. `late` says to the log what waits."""
    while while_true():
        try:
            await look()
        except (Failure, OSError) as failure:
            log.warning("%s: %s", late, failure)
            await asyncio.sleep(again)
        else:
            await asyncio.sleep(every)


async def keep_renewing(
    vault: Vault, what: str, look: Callable[[], Awaitable[int]], every: float, again: float = AGAIN
) -> None:
    """The task of what owns secrets: looks at its start and again and again while an old key is given.

    `look` seals them anew, and says how many stay as they are.
    A process that still has the old key first seals with that; and a store may be away when one looks.
    """

    async def renewed() -> None:
        if left := await look():
            log.warning("%d of the %s stay as they are: no key that is given opens them", left, what)
        else:
            log.info("%s are sealed with the new key", what)

    await keep_looking(renewed, f"{what} are sealed with the new key later", every, again, lambda: vault.has_old)
