"""How limits are put together."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.message import Message

from aimass.v1 import gateway_events_pb2 as events
from services.gateway.access.service import AccessService
from services.gateway.limiting.api import LimitsApi
from services.gateway.limiting.service import Limiting
from services.gateway.limiting.store import LimitStore
from services.kit.app import Runtime
from services.kit.db import Database
from services.kit.inbox import Handler


class LimitsSlice:
    """What the gateway's application takes of limits."""

    def __init__(
        self, database: Database, access: AccessService, runtime: Runtime, routes: Callable[[], Sequence[str]]
    ) -> None:
        """`routes` are what limits of routes can be for."""
        limiting = Limiting(LimitStore(database), access, routes, runtime.now)
        api = LimitsApi(limiting)
        self.levels = limiting.book.levels
        self.rpc: Mapping[str, Any] = {"aimass.v1.Limits": api}
        self.heard: dict[type[Message], Handler] = {events.LimitChanged: api.changed}
        self.start, self.tasks = [limiting.following.start], [limiting.following.watch]
