"""Removes personal data from records before they are kept, by the privacy filters of their tenants."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from google.protobuf.message import DecodeError

from aimass.v1 import gateway_events_pb2 as events
from aimass.v1 import privacy_pb2 as pb
from services.kit.bus import Event
from services.kit.privacy.filtering import Filter
from services.kit.privacy.policies import Policies, Policy, policy_of
from services.logs.domain import Record
from services.logs.privacy.store import PrivacyStore, StoredFilter
from services.logs.tables import Kept, records_of, shared_fields

_KIND = events.PrivacyFilterChanged.DESCRIPTOR.full_name
_SHORT = 200  # characters of a text whose result is cached: names and ids come again and again
# Fields of a record, beside text and attributes, that may have a caller's words in them.
_WORDS = ("name", "request_id", "model", "status")


class Privacy:
    """Follows the gateway's privacy filters by its events; each applies to records that are kept after it."""

    def __init__(self, store: PrivacyStore, derive: Callable[[str], bytes]) -> None:
        """`derive` gives the key for a purpose, the same one as in the gateway."""
        self._store, self._policies = store, Policies(derive)

    async def load(self) -> None:
        """Loads the stored filters."""
        self._policies.take(_policy(*kept) for kept in await self._store.everything())

    async def hear(self, received: Sequence[Event]) -> None:
        """Stores and applies the filters among events, before records of the same events are kept."""
        if found := [kept for event in received if event.type == _KIND and (kept := _kept(event))]:
            await self._store.keep(found)
            self._policies.take(_policy(*kept) for kept in found)

    def clean(self, records: Sequence[Kept]) -> Sequence[Kept]:
        """The records as they may be kept. Without a filter this costs one look-up per record or table."""
        return [kept for one in records for kept in self._clean(one)]

    def _clean(self, one: Kept) -> Sequence[Kept]:
        common = shared_fields(one)
        through = self._policies.stream(common.tenant, f"{common.service}/{common.name}")
        return [one] if through is None else [_cleaned(record, through) for record in records_of([one])]


def _cleaned(record: Record, through: Filter) -> Record:
    short = _short(through)

    def text(value: Any) -> Any:
        if not isinstance(value, str) or not value:
            return value
        return short(value) if len(value) <= _SHORT else through(value)

    words = {field: text(getattr(record, field)) for field in _WORDS}
    attributes = {name: text(value) for name, value in record.attributes.items()}
    return record._replace(text=text(record.text), attributes=attributes, **words)


@lru_cache(maxsize=256)
def _short(through: Filter) -> Callable[[str], str]:
    return lru_cache(maxsize=4096)(through)


def _kept(event: Event) -> StoredFilter | None:
    """The stored form of the filter in an event; None for an event with a flaw."""
    if event.flaw():
        return None
    try:
        changed = events.PrivacyFilterChanged.FromString(event.body)
    except DecodeError:
        return None
    wire = changed.privacy_filter
    return event.scope.tenant, wire.privacy_filter, changed.generation, wire.SerializeToString()


def _policy(tenant: str, name: str, generation: int, content: bytes) -> Policy:
    return policy_of(pb.PrivacyFilter.FromString(content), tenant, generation)
