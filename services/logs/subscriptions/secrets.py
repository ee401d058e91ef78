"""The secrets that deliveries are signed with: dropped with their tenant, and sealed anew when the key has changed."""

import logging
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from aimass.v1 import gateway_events_pb2 as events
from services.kit.bus import Event
from services.kit.secrets import Vault
from services.logs.subscriptions.service import context_of
from services.logs.subscriptions.store import Store

log = logging.getLogger(__name__)
_KIND = events.TenantChanged.DESCRIPTOR.full_name


class Secrets:
    """Looks after what the database has of them."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store, self._vault = store, vault

    async def hear(self, received: Sequence[Event]) -> None:
        """Drops the secrets of tenants whose keys are destroyed."""
        for event in received:
            if event.type == _KIND and not event.flaw() and _shredded(event.body):
                await self._store.forget_secrets(event.scope.tenant)

    async def renew(self) -> None:
        """Seals what an old key has sealed with the one that seals now. Broken off, it is done by the next start."""
        if not self._vault.has_old:
            return
        done = 0
        for scope, name, sealed in await self._store.secrets():
            context = context_of(scope, name)
            if not sealed or self._vault.is_current(sealed):
                continue
            try:
                renewed = self._vault.seal(self._vault.open(sealed, context), context)
            except ValueError as error:
                log.error("the secret of subscription %s of %s stays as it is: %s", name, scope.tenant, error)
            else:
                done += await self._store.renew_secret(scope, name, sealed, renewed)
        log.info("%d secrets of subscriptions are sealed with the new key", done)


def _shredded(body: bytes) -> bool:
    try:
        return events.TenantChanged.FromString(body).tenant.HasField("shred_time")
    except DecodeError:
        return False
