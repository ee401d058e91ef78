"""The signing secrets of subscriptions: deleted with their tenant, and sealed again after a change of the key."""

from collections.abc import Sequence
from functools import partial

from google.protobuf.message import DecodeError

from aimass.v1 import gateway_events_pb2 as events
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.renewing import EVERY, Kept, keep_renewing, renew
from services.kit.secrets import Vault
from services.logs.subscriptions.service import context_of
from services.logs.subscriptions.store import Store

_KIND = events.TenantChanged.DESCRIPTOR.full_name


class Secrets:
    """Maintains the secrets in the database."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store, self._vault = store, vault

    async def hear(self, received: Sequence[Event]) -> None:
        """Deletes the secrets of tenants whose keys are destroyed."""
        for event in received:
            if event.type == _KIND and not event.flaw() and _shredded(event.body):
                await self._store.forget_secrets(event.scope.tenant)

    async def renew(self, every: float = EVERY) -> None:
        """The task that seals secrets with the current key while an old one is configured."""
        await keep_renewing(self._vault, "secrets of subscriptions", self._look, every)

    async def _look(self) -> int:
        return (await renew(self._vault, [self._kept(*found) for found in await self._store.secrets()])).left

    def _kept(self, scope: Scope, name: str, sealed: bytes) -> Kept:
        put = partial(self._store.renew_secret, scope, name, sealed)
        return Kept(f"the secret of subscription {name} of {scope.tenant}", context_of(scope, name), sealed, put)


def _shredded(body: bytes) -> bool:
    try:
        return events.TenantChanged.FromString(body).tenant.HasField("shred_time")
    except DecodeError:
        return False
