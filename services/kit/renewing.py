"""Encrypts secrets anew with the current secrets key, while the settings name an old one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from services.kit.errors import Failure
from services.kit.secrets import Vault

log = logging.getLogger(__name__)
EVERY = 3600.0  # seconds between two rounds
AGAIN = 10.0  # seconds after a round that failed


class Kept(NamedTuple):
    """An encrypted secret: its name for the log, its context, its bytes, and a function that replaces them."""

    called: str
    context: str
    sealed: bytes
    replace: Callable[[bytes], Awaitable[Any]]


class Renewed(NamedTuple):
    """How many secrets were encrypted anew, and how many no key could decrypt."""

    done: int = 0
    left: int = 0


async def renew(vault: Vault, secrets: Iterable[Kept]) -> Renewed:
    """Encrypts secrets of older keys with the current one. Secrets that no key decrypts stay as they are."""
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
    """Runs `look` at once and then every hour, sooner after a failure. `late` is the log line for a failure."""
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
            log.warning("%d of the %s cannot be decrypted with any given key, and stay as they are", left, what)
        else:
            log.info("%s are encrypted with the current secrets key", what)

    await keep_looking(renewed, f"{what} are sealed with the new key later", every, again, lambda: vault.has_old)
