"""Storage in the ledger: charged for each hour of the clock, and refused when a quota is spent."""

from datetime import UTC

from aimass.v1.data_events_pb2 import DataStored
from aimass.v1.registry_events_pb2 import ArtifactsStored
from services.gateway.ledger.book import Quotabook
from services.gateway.ledger.domain import STORAGE, Amounts, Entry
from services.gateway.ledger.store.entries import Entries
from services.kit.auth import Principal
from services.kit.inbox import Delivery
from services.kit.timestamps import uuid7

_MIB = 2**20
_LEAST = Amounts(storage_mib_hours=1)


class Storage:
    """Admits what will be stored, and charges what is."""

    def __init__(self, entries: Entries, book: Quotabook, instance: str) -> None:
        self._entries, self._book, self._instance = entries, book, instance

    async def admit(self, caller: Principal) -> None:
        """Raises quota_exceeded; unavailable when quotas cannot be asked. Without a quota it asks nothing.

        Storage belongs to no single caller: only the quotas of its project and tenant count.
        """
        scope = caller.scope
        if self._book.limits(scope.tenant, scope.project, ""):
            await self._entries.room(scope, STORAGE, _LEAST)

    async def stored(self, message: DataStored | ArtifactsStored, delivery: Delivery) -> None:
        """Charges the storage of one hour, once, however often it is reported.

        It counts in the day and month of that hour, at its prices, however late it is heard.
        """
        kept, scope, hour = message.kept, delivery.scope, message.kept.hour.ToDatetime(UTC)
        used, reference = Amounts(storage_mib_hours=-(-kept.bytes // _MIB)), f"{kept.what}/{hour:%Y-%m-%dT%H}"
        entry = Entry(
            uuid7(),
            scope.tenant,
            scope.project,
            principal="",
            kind=STORAGE,
            model="",
            reserved=Amounts(),
            reference=reference,
            owner=self._instance,
            used=used,
            create_time=hour,
        )
        await self._entries.conclude(entry)
