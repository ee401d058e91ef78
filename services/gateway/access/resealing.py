"""Seals the signing secrets of keys anew when the installation's key has changed."""

from functools import partial

from services.gateway.access.domain import ApiKey, sealed_for
from services.gateway.access.store import AccessStore
from services.kit.renewing import EVERY, Kept, keep_renewing, renew
from services.kit.secrets import Vault


class Resealing:
    """The task of a gateway while an old key is given."""

    def __init__(self, store: AccessStore, vault: Vault) -> None:
        self._store, self._vault = store, vault

    async def run(self, every: float = EVERY) -> None:
        """Seals what an old key has sealed with the one that seals now."""
        await keep_renewing(self._vault, "secrets of keys", self._look, every)

    async def _look(self) -> int:
        kept = [self._kept(key) for key, _ in (await self._store.everything())[1]]
        return (await renew(self._vault, kept)).left

    def _kept(self, key: ApiKey) -> Kept:
        sealed = key.signing.sealed if key.signing else b""
        put = partial(self._store.renew_secret, key.tenant, key.api_key, sealed)
        return Kept(f"the secret that key {key.api_key} signs with", sealed_for(key.api_key), sealed, put)
