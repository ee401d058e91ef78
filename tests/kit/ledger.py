"""A service that keeps entries, for tests of what stands in front of every servicer: repeats, etags, audiences."""

from functools import cache, partial
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default
from google.protobuf.wrappers_pb2 import StringValue
from sqlalchemy.engine import Connection

from aimass.v1 import options_pb2
from services.kit.auth import Identity, Principal
from services.kit.db import Database
from services.kit.local import LocalChannel
from services.kit.rpc import Call, guard
from services.kit.schema import Schema
from tests.kit.conftest import SCOPE, now

SERVICE = "aimass.test.Ledger"
_POLICIES: dict[str, dict[str, Any]] = {
    "Add": {"effect": options_pb2.EFFECT_KEYED},
    "Careless": {"effect": options_pb2.EFFECT_KEYED},
    "Change": {"etag_required": True},
    "Look": {},
    "Inside": {"audience": options_pb2.AUDIENCE_INTERNAL},
    "Anybody": {"permission": ""},
}


@cache
def declare() -> None:
    """Every method takes a text and gives one."""
    file = FileDescriptorProto(name="aimass/test/ledger.proto", package="aimass.test", syntax="proto3")
    file.dependency.extend(["google/protobuf/wrappers.proto", "aimass/v1/options.proto"])
    service = file.service.add(name="Ledger")
    service.options.Extensions[options_pb2.owner] = "data"
    for name, policy in _POLICIES.items():
        kind = ".google.protobuf.StringValue"
        method = service.method.add(name=name, input_type=kind, output_type=kind)
        given = {"audience": options_pb2.AUDIENCE_PUBLIC, "permission": "ledger.use", **policy}
        method.options.Extensions[options_pb2.policy].MergeFrom(options_pb2.MethodPolicy(**given))
    Default().Add(file)


def _wire(text: str) -> StringValue:
    return StringValue(value=text)


class LedgerApi:
    """What a caller said is kept in `entries`, once for each effect."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.entries: list[str] = []
        self.calls: list[Call] = []

    async def Add(self, request: StringValue, call: Call) -> StringValue:
        self.calls.append(call)
        kept = await self._db.run(partial(self._keep, request.value), call.once(_wire))
        call.trailers["entries"] = str(len(self.entries))
        return StringValue(value=kept)

    def _keep(self, text: str, connection: Connection) -> str:
        if text == "bad":
            raise ValueError("secret text of a bug")
        self.entries.append(text)
        return f"{text} is entry {len(self.entries)}"

    async def Careless(self, request: StringValue, call: Call) -> StringValue:
        return request

    async def Change(self, request: StringValue, call: Call) -> StringValue:
        return StringValue(value=call.etag)

    async def Look(self, request: StringValue, call: Call) -> StringValue:
        self.calls.append(call)
        return StringValue(value=f"{call.scope.tenant}/{call.scope.project}")

    Inside = Anybody = Look


class Ledger:
    """The service behind a channel, and callers of it."""

    def __init__(self, db: Database, schema: Schema, identity: Identity) -> None:
        declare()
        self.api, self._identity, self.channel = LedgerApi(db), identity, LocalChannel()
        self.channel.serve(guard({SERVICE: self.api}, identity, "data", now, schema.keys))

    def call(self, method: str, text: str = "", who: str = "key:test", **headers: Any) -> Any:
        """A call by a principal; headers with underscores; `permissions` and `scope` say what it may, and where."""
        permissions, scope = headers.pop("permissions", ("*",)), headers.pop("scope", SCOPE)
        timeout = headers.pop("timeout", None)
        token = self._identity.token("data", Principal(scope, who, tuple(permissions)))
        sent = {"authorization": f"Bearer {token}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        path = f"/{SERVICE}/{method}"
        made = self.channel.unary_unary(path, StringValue.SerializeToString, StringValue.FromString)
        return made(StringValue(value=text), timeout=timeout, metadata=tuple(sent.items()))
