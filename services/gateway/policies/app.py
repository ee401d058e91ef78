"""How policies are put together, and joined to keys."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from aimass.v1 import gateway_events_pb2 as pb
from services.gateway.access.service import AccessService
from services.gateway.policies import guard
from services.gateway.policies.api import PoliciesApi
from services.gateway.policies.recorder import Recorder
from services.gateway.policies.refusals import Refusals
from services.gateway.policies.service import Policies
from services.gateway.policies.store.decisions import DecisionStore
from services.gateway.policies.store.versions import PolicyStore
from services.kit.app import Runtime
from services.kit.db import Database
from services.kit.inbox import Handler


class PolicySlice:
    """What the gateway's application takes of policies."""

    def __init__(self, database: Database, access: AccessService, runtime: Runtime) -> None:
        refusals = Refusals(access.trail.add)
        store, decisions, kinds = PolicyStore(database), DecisionStore(database), guard.kinds
        self.recorder = recorder = Recorder(decisions)
        policies = Policies(store, decisions, recorder, lambda: access.keyring, kinds, runtime.now, refusals.note)
        self.guards, self.guard, api = policies.guards, policies.of, PoliciesApi(policies)
        self.rpc: Mapping[str, Any] = {"aimass.v1.Policies": api}
        self.heard: dict[type[Message], Handler] = {pb.PoliciesChanged: api.changed}
        self.start = [policies.following.start]
        self.tasks = [policies.following.watch, policies.look, recorder.run, refusals.tell_for_ever]
        self.close = [refusals.tell, recorder.write]
