"""What the compiled protos declare: services, methods, policies, routes, descriptions, and the rules of fields."""

import gzip
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any

import aimass.v1
from aimass.v1 import options_pb2
from google.api.annotations_pb2 import http
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message

from services.kit.errors import Code, Failure, Violation

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
ANY = "any"  # the owner of a service that every service has
_SERVICE, _METHOD, _MESSAGE, _FIELD = 6, 2, 4, 2  # field numbers in FileDescriptorProto and below


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
        """The longest a call may take, in seconds."""
        return self.policy.deadline.seconds + self.policy.deadline.nanos / 1e9 or 10.0

    @property
    def takes(self) -> Descriptor:
        return self.descriptor.input_type

    @property
    def gives(self) -> Descriptor:
        return self.descriptor.output_type

    @property
    def long_work(self) -> bool:
        """It answers with an operation."""
        return self.gives.full_name == "aimass.v1.Operation" and not self.path.startswith("/aimass.v1.Operations/")

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
    """The full names of all services of the house. Imports every module of the contract."""
    found = []
    for module in pkgutil.iter_modules(aimass.v1.__path__):
        if module.name.endswith("_pb2"):
            described = importlib.import_module(f"aimass.v1.{module.name}").DESCRIPTOR
            found += [service.full_name for service in described.services_by_name.values()]
    return tuple(sorted(found))


@cache
def all_methods() -> dict[str, Method]:
    """Every method of the house by path."""
    return {method.path: method for service in services() for method in methods(service)}


@cache
def comments() -> dict[str, str]:
    """The proto comments by full name of service, method, message, field or enum value."""
    packed = resources.files("aimass.v1").joinpath("api.binpb.gz").read_bytes()
    found: dict[str, str] = {}
    for file in FileDescriptorSet.FromString(gzip.decompress(packed)).file:
        for place in file.source_code_info.location:
            if (name := _name(file, list(place.path))) and place.leading_comments.strip():
                found[name] = " ".join(place.leading_comments.split())
    return found


def _name(file: FileDescriptorProto, path: list[int]) -> str:
    match path:
        case [kind, i] if kind == _SERVICE:
            return f"{file.package}.{file.service[i].name}"
        case [kind, i, part, j] if (kind, part) == (_SERVICE, _METHOD):
            return f"{file.package}.{file.service[i].name}.{file.service[i].method[j].name}"
        case [kind, i] if kind == _MESSAGE:
            return f"{file.package}.{file.message_type[i].name}"
        case [kind, i, part, j] if (kind, part) == (_MESSAGE, _FIELD):
            return f"{file.package}.{file.message_type[i].name}.{file.message_type[i].field[j].name}"
    return ""


def topic(message: Descriptor) -> str:
    """Where events of a type go: aimass.registry.v1 for those of registry_events.proto."""
    return f"aimass.{message.file.name.rsplit('/', 1)[-1].removesuffix('_events.proto')}.v1"


def check(request: Message) -> None:
    """Raises invalid_value or invalid_name, with every field that breaks its rule; clears output-only fields."""
    found = list(_violations(request, ""))
    if not found:
        return
    names = [violation for violation in found if violation.rule.startswith("must be a name")]
    code = Code.INVALID_NAME if names else Code.INVALID_VALUE
    first = (names or found)[0]
    raise Failure(code, f"{first.pointer[1:].replace('/', '.')} {first.rule}", found)


_Rule = Callable[[Any, str], Iterator[Violation]]


def _violations(message: Message, at: str) -> Iterator[Violation]:
    for field, rule in _rules(message.DESCRIPTOR):
        policy = field.GetOptions().Extensions[options_pb2.field]
        if policy.output_only:
            message.ClearField(field.name)
        else:
            yield from rule(message, f"{at}/{field.name}")


@cache
def _rules(descriptor: Descriptor) -> tuple[tuple[FieldDescriptor, _Rule], ...]:
    return tuple((field, _rule(field)) for field in descriptor.fields)


def _rule(field: FieldDescriptor) -> _Rule:
    policy = field.GetOptions().Extensions[options_pb2.field]
    own = bool(field.message_type) and field.message_type.full_name.startswith("aimass.")
    entry = bool(field.message_type) and field.message_type.GetOptions().map_entry
    longest, most = policy.max_length or 1024, policy.max_items or 1000

    def one(value: Any, at: str) -> Iterator[Violation]:
        if own:
            yield from _violations(value, at)
        elif isinstance(value, str):
            yield from _string(value, at)

    def _string(value: str, at: str) -> Iterator[Violation]:
        if policy.name and not NAME.match(value) and not (policy.optional and not value):
            yield Violation(at, "must be a name: [a-z][a-z0-9_-]{0,62}")
        elif len(value) > longest:
            yield Violation(at, f"must have at most {longest} characters")
        elif "\0" in value:
            yield Violation(at, "must not contain NUL")

    def rule(message: Any, at: str) -> Iterator[Violation]:
        value = getattr(message, field.name)
        if field.is_repeated:
            if policy.required and not value:
                yield Violation(at, "must not be empty")
            if len(value) > most:
                yield Violation(at, f"must have at most {most} items")
            elif not entry:
                for index, item in enumerate(value):
                    yield from one(item, f"{at}/{index}")
            else:
                for key, item in value.items():
                    yield from _string(key, at)
                    yield from one(item, f"{at}/{key}") if isinstance(item, str) else ()
        elif policy.required and not (message.HasField(field.name) if field.message_type else value):
            yield Violation(at, "must be set")
        elif not field.has_presence or message.HasField(field.name):
            yield from one(value, at)

    return rule
