"""What the compiled protos declare: services, methods, policies, routes, descriptions."""

import gzip
import importlib
import pkgutil
import re
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any

import orjson
from google.api.annotations_pb2 import http
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message

import aimass.v1
from aimass.v1 import options_pb2

ANY = "any"  # the owner of a service that every service has
HTTP_BODY = "google.api.HttpBody"  # the message whose bytes are sent as they are


@dataclass(frozen=True)
class Method:
    """One RPC, as its proto declares it."""

    descriptor: MethodDescriptor
    owner: str

    @cached_property
    def path(self) -> str:
        """/aimass.v1.Models/GetModel"""
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"

    @cached_property
    def policy(self) -> options_pb2.MethodPolicy:
        return self.descriptor.GetOptions().Extensions[options_pb2.policy]

    @cached_property
    def verb(self) -> str:
        """GET, POST ..., or empty when it has no route."""
        return (self._rule.WhichOneof("pattern") or "").upper() if self._rule else ""

    @cached_property
    def route(self) -> str:
        """/v1/models/{model}"""
        return str(getattr(self._rule, self.verb.lower())) if self.verb else ""

    @cached_property
    def body(self) -> str:
        """`*`, the field that the body fills, or empty."""
        return str(self._rule.body) if self._rule else ""

    @property
    def _rule(self) -> Any:
        options = self.descriptor.GetOptions()
        return options.Extensions[http] if options.HasExtension(http) else None

    @property
    def public(self) -> bool:
        return self.policy.audience == options_pb2.AUDIENCE_PUBLIC

    @cached_property
    def deadline(self) -> float:
        """Seconds that a call may take."""
        return self.policy.deadline.seconds + self.policy.deadline.nanos / 1e9 or 10.0

    @property
    def takes(self) -> Descriptor:
        return self.descriptor.input_type

    @property
    def gives(self) -> Descriptor:
        return self.descriptor.output_type

    @cached_property
    def shows_secret(self) -> bool:
        """Its answer has a secret, which must not be stored or logged in plain."""
        return any(field.GetOptions().Extensions[options_pb2.field].secret for field in self.gives.fields)

    @property
    def long_work(self) -> bool:
        """It starts an operation."""
        return self.gives.full_name == "aimass.v1.Operation" and not self.path.startswith("/aimass.v1.Operations/")

    def thing(self, request: Message) -> str:
        """The object on which a permission on some objects suffices; empty: permission on all is needed."""
        return "" if self.policy.names_others else self.about(request)

    def about(self, request: Message) -> str:
        """The first object that a call names, even if it names others; empty: none."""
        named = self._named
        if not named or not all(getattr(request, field) for field in named):
            return ""
        return self.resource(request)

    @cached_property
    def _named(self) -> tuple[str, ...]:
        """The fields that name the object of a call."""
        return tuple(re.findall(r"{(\w+)}", self.policy.resource))

    def resource(self, request: Message) -> str:
        """The object a call concerns: models/late."""
        return re.sub(r"{(\w+)}", lambda match: str(getattr(request, match.group(1), "")), self.policy.resource)


@cache
def methods(service: str) -> tuple[Method, ...]:
    """The methods of a service, by full name; its module must have been imported."""
    descriptor = Default().FindServiceByName(service)
    owner = descriptor.GetOptions().Extensions[options_pb2.owner]
    return tuple(Method(method, owner) for method in descriptor.methods)


@cache
def services() -> tuple[str, ...]:
    """The full names of all services of the contract. Imports every module of it."""
    found = []
    for module in pkgutil.iter_modules(aimass.v1.__path__):
        if module.name.endswith("_pb2"):
            described = importlib.import_module(f"aimass.v1.{module.name}").DESCRIPTOR
            found += [service.full_name for service in described.services_by_name.values()]
    return tuple(sorted(found))


@cache
def all_methods() -> dict[str, Method]:
    """All methods of the contract, by path."""
    return {method.path: method for service in services() for method in methods(service)}


@cache
def comments() -> dict[str, str]:
    """The proto comments by full name of service, method, message or field."""
    packed = resources.files("aimass.v1").joinpath("comments.json.gz").read_bytes()
    found: dict[str, str] = orjson.loads(gzip.decompress(packed))
    return found


def topic(message: Any) -> str:
    """The topic of a type of events (a message descriptor): aimass.registry.v1 for those of registry_events.proto."""
    return _topic(message.file.name.rsplit("/", 1)[-1].removesuffix(".proto"))


@cache
def topics() -> tuple[str, ...]:
    """The topics of all events. Imports their modules, so that each type is found by its name."""
    names = [module.name for module in pkgutil.iter_modules(aimass.v1.__path__) if module.name.endswith("_events_pb2")]
    for name in names:
        importlib.import_module(f"aimass.v1.{name}")
    return tuple(_topic(name.removesuffix("_pb2")) for name in names)


def _topic(file: str) -> str:
    return f"aimass.{file.removesuffix('_events')}.v1"
