"""Services and methods from the compiled protos: all that the client and the command line know of them."""

import gzip
import importlib
import json
import pkgutil
import re
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any

from google.api.annotations_pb2 import http
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

import aimass.v1
from aimass.v1 import options_pb2

_HTTP_BODY = "google.api.HttpBody"


def snake(name: str) -> str:
    """GetModel: get_model."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


@dataclass(frozen=True)
class Method:
    """One RPC that the gateway has a route to."""

    descriptor: MethodDescriptor

    @cached_property
    def name(self) -> str:
        """Its name in the client: get_model."""
        return snake(self.descriptor.name)

    @cached_property
    def service(self) -> str:
        """The attribute of the client: feature_sets."""
        return snake(self.descriptor.containing_service.name)

    @cached_property
    def policy(self) -> options_pb2.MethodPolicy:
        return self.descriptor.GetOptions().Extensions[options_pb2.policy]

    @cached_property
    def _rule(self) -> Any:
        return self.descriptor.GetOptions().Extensions[http]

    @cached_property
    def verb(self) -> str:
        """GET, POST, ..."""
        return (self._rule.WhichOneof("pattern") or "").upper()

    @cached_property
    def route(self) -> str:
        """/v1/models/{model}"""
        return str(getattr(self._rule, self.verb.lower()))

    @cached_property
    def path_fields(self) -> tuple[str, ...]:
        """The request's fields in the route, in order."""
        return tuple(re.findall(r"{(\w+)}", self.route))

    @property
    def body(self) -> str:
        """`*`, the field that is the body, or empty."""
        return str(self._rule.body)

    @property
    def takes(self) -> Descriptor:
        return self.descriptor.input_type

    @property
    def gives(self) -> Descriptor:
        return self.descriptor.output_type

    @property
    def keyed(self) -> bool:
        """It takes an idempotency key."""
        return bool(self.policy.effect == options_pb2.EFFECT_KEYED)

    @property
    def streams(self) -> bool:
        return bool(self.descriptor.server_streaming)

    @property
    def raw(self) -> bool:
        """It returns bytes instead of a message."""
        return self.gives.full_name == _HTTP_BODY

    @property
    def long_work(self) -> bool:
        """It starts an operation."""
        return self.gives.full_name == "aimass.v1.Operation" and self.service != "operations"

    @cached_property
    def deadline(self) -> float:
        """Seconds that a call may take."""
        return self.policy.deadline.seconds + self.policy.deadline.nanos / 1e9 or 10.0

    @cached_property
    def items(self) -> FieldDescriptor | None:
        """The repeated field of its pages; None if it has no pages."""
        if "page_token" not in self.takes.fields_by_name or "next_page_token" not in self.gives.fields_by_name:
            return None
        return next(field for field in self.gives.fields if field.is_repeated)

    @property
    def iterator(self) -> str:
        """The name of its iterator in the client: iterate_models; of a query's rows iterate_query_data_sets."""
        verb = r"^" if self.name.startswith("query_") else r"^[a-z]+_"
        return re.sub(verb, "iterate_", self.name)


def policy_of(field: FieldDescriptor) -> options_pb2.FieldPolicy:
    """The rules of a field."""
    return field.GetOptions().Extensions[options_pb2.field]


@cache
def services() -> dict[str, dict[str, Method]]:
    """All public methods, by service and name. Imports all messages of the contract."""
    found: dict[str, dict[str, Method]] = {}
    for module in pkgutil.iter_modules(aimass.v1.__path__):
        if not module.name.endswith("_pb2"):
            continue
        for service in importlib.import_module(f"aimass.v1.{module.name}").DESCRIPTOR.services_by_name.values():
            methods = [Method(method) for method in service.methods]
            public = {m.name: m for m in methods if m.verb and m.policy.audience == options_pb2.AUDIENCE_PUBLIC}
            if public:
                found[snake(service.name)] = public
    return dict(sorted(found.items()))


@cache
def method(service: str, name: str) -> Method:
    """One method by the names that the client uses."""
    return services()[service][name]


@cache
def comments() -> dict[str, str]:
    """The comments of the contract, by full name of service, method, message or field."""
    packed = resources.files("aimass.v1").joinpath("comments.json.gz").read_bytes()
    found: dict[str, str] = json.loads(gzip.decompress(packed))
    return found
