"""Passwords of sources, under the current secrets key."""

from functools import partial

from services.data.sources.domain import Source
from services.data.sources.service import context_of
from services.data.sources.store import SourceStore
from services.kit.auth import Scope
from services.kit.renewing import EVERY, Kept, keep_renewing, renew
from services.kit.secrets import Vault


class SourceSecrets:
    """Encrypts passwords anew while the settings name an old key."""

    def __init__(self, store: SourceStore, vault: Vault) -> None:
        self._store, self._vault = store, vault

    async def renew(self, every: float = EVERY) -> None:
        """For ever."""
        await keep_renewing(self._vault, "passwords of sources", self._look, every)

    async def _look(self) -> int:
        return (await renew(self._vault, [self._kept(*found) for found in await self._store.secrets()])).left

    def _kept(self, scope: Scope, source: Source) -> Kept:
        put = partial(self._store.renew_secret, scope, source.source, source.sealed)
        called = f"the password of the source {source.source} of {scope.tenant}"
        return Kept(called, context_of(scope, source.source, source.definition), source.sealed, put)
