"""How the ledger is put together, and joined to keys."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from aimass.v1 import gateway_events_pb2 as pb
from aimass.v1.data_events_pb2 import DataStored, WorkEnded
from aimass.v1.registry_events_pb2 import ArtifactsStored
from aimass.v1.trainer_events_pb2 import JobChanged
from services.gateway.access.service import AccessService
from services.gateway.database import schema
from services.gateway.ledger.api import PricesApi, QuotasApi, UsageApi
from services.gateway.ledger.events import usage_settled
from services.gateway.ledger.longwork import LongWork
from services.gateway.ledger.service import Ledger
from services.gateway.ledger.spending import Spending
from services.gateway.ledger.storage import Storage
from services.gateway.ledger.store.entries import Entries
from services.gateway.ledger.store.quotas import Quotas
from services.gateway.ledger.store.report import Report
from services.kit.app import Runtime
from services.kit.db import Database
from services.kit.inbox import Handler, Listener


class LedgerSlice:
    """What the gateway's application takes of the ledger."""

    def __init__(self, database: Database, access: AccessService, runtime: Runtime) -> None:
        self.entries = Entries(database, usage_settled)
        ledger = Ledger(Quotas(database), Report(database), runtime.now, access.holds, access.administers)
        self.spending = Spending(self.entries, ledger.book, runtime.instance)
        access.budgeted = ledger.book.has
        quotas = QuotasApi(ledger)
        self.rpc: Mapping[str, Any] = {
            "aimass.v1.Quotas": quotas,
            "aimass.v1.Usage": UsageApi(ledger),
            "aimass.v1.Prices": PricesApi(ledger),
        }
        self.heard: dict[type[Message], Handler] = {pb.QuotaChanged: quotas.changed}
        self.longwork = LongWork(self.entries, ledger.book, runtime.instance)
        # Not one for each process: every event is heard once, by one of all gateways.
        ends: dict[type[Message], Handler] = {JobChanged: self.longwork.changed, WorkEnded: self.longwork.ended}
        self.storage = Storage(self.entries, ledger.book, runtime.instance)
        ends |= {DataStored: self.storage.stored, ArtifactsStored: self.storage.stored}
        self.ends = Listener(ends, schema.inbox)
        self.start = [ledger.following.start, self.entries.begin]
        self.tasks = [ledger.following.watch, self.entries.watch, self.spending.run]
