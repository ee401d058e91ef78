"""How tenants, keys and roles are put together."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from aimass.v1 import gateway_events_pb2 as events
from services.gateway.access.api import AccessApi, ReceiptKey
from services.gateway.access.installation import Given
from services.gateway.access.keeping import Keeping
from services.gateway.access.resealing import Resealing
from services.gateway.access.service import AccessService
from services.gateway.access.shredding import Remains, Shredding
from services.gateway.access.store import AccessStore
from services.gateway.roles.api import RolesApi
from services.gateway.roles.service import Roles
from services.gateway.roles.store import RoleStore
from services.kit.app import Runtime
from services.kit.db import Database
from services.kit.inbox import Handler


class AccessSlice:
    """What the gateway's application takes of tenants, keys and roles."""

    def __init__(self, database: Database, given: Given, receipts: ReceiptKey, runtime: Runtime) -> None:
        roles, store, keys = Roles(RoleStore(database), runtime.now), AccessStore(database), runtime.storage.keys
        self.service = AccessService(store, roles, runtime.home, runtime.now, runtime.random, given, runtime.vault)
        shredding = Shredding(self.service, store, keys, runtime.now, runtime.forgetting.wake)
        api = AccessApi(self.service, Keeping(self.service, store, runtime.now), receipts, shredding)
        self.rpc: Mapping[str, Any] = {"aimass.v1.Access": api, "aimass.v1.Roles": RolesApi(roles)}
        changes = (events.ApiKeyChanged, events.TenantChanged, events.RoleChanged, events.BindingChanged)
        self.heard: dict[type[Message], Handler] = dict.fromkeys(changes, api.changed)
        self.start = [self.service.start]
        remains = Remains(store, keys, runtime.forgetting.wake)
        self.tasks = [self.service.following.watch, remains.run, Resealing(store, runtime.vault).run]
