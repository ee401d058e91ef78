"""Secrets that requests are signed with, sealed anew when the installation's key has changed."""

import logging

from services.gateway.access.domain import sealed_for
from services.gateway.access.store import AccessStore
from services.kit.secrets import Vault

log = logging.getLogger(__name__)


class Resealing:
    """The task of a gateway that starts while an old key is given."""

    def __init__(self, store: AccessStore, vault: Vault) -> None:
        self._store, self._vault = store, vault

    async def run(self) -> None:
        """Seals what an old key has sealed with the one that seals now. Broken off, it is done by the next start."""
        if not self._vault.has_old:
            return
        done, vault = 0, self._vault
        for key, _ in (await self._store.everything())[1]:
            old, context = key.signing.sealed if key.signing else b"", sealed_for(key.api_key)
            if not old or vault.is_current(old):
                continue
            try:
                new = vault.seal(vault.open(old, context), context)
            except ValueError as error:
                log.error("the secret that key %s signs with stays as it is: %s", key.api_key, error)
            else:
                done += await self._store.renew_secret(key.tenant, key.api_key, old, new)
        log.info("%d secrets of keys are sealed with the new key", done)
