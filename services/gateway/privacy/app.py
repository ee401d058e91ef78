"""How filters of personal data are put together."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from aimass.v1 import gateway_events_pb2 as events
from services.gateway.privacy.api import PrivacyApi
from services.gateway.privacy.cleaner import Cleaner
from services.gateway.privacy.service import PrivacyService
from services.gateway.privacy.store import PrivacyStore
from services.kit.app import Runtime
from services.kit.db import Database
from services.kit.inbox import Handler
from services.kit.privacy.policies import Policies


class PrivacySlice:
    """What the gateway's application takes of filters of personal data."""

    def __init__(self, database: Database, runtime: Runtime) -> None:
        service = PrivacyService(PrivacyStore(database), Policies(runtime.vault.derive), runtime.now)
        api = PrivacyApi(service)
        self.cleaner = Cleaner(service.policies)
        self.start, self.tasks = [service.following.start], [service.following.watch]
        self.rpc: Mapping[str, Any] = {"aimass.v1.PrivacyFilters": api}
        self.heard: dict[type[Message], Handler] = {events.PrivacyFilterChanged: api.changed}
