"""The OpenAPI 3.1 document, from the contract: descriptions are the comments of the protos."""

from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from aimass.v1 import options_pb2
from services.gateway.api import openapi_fixed, routes, schemas
from services.gateway.api.schemas import Json
from services.kit import contract
from services.kit.contract import HTTP_BODY, Method

_SHARED = ("XProject", "XRequestId", "XRequestTimeout")


def document(methods: Iterable[Method], version: str) -> Json:
    """The whole document, for the methods that this installation has."""
    known = [method for method in methods if method.verb]
    paths: Json = {}
    for entry in routes.table(known):
        paths[entry.template] = {verb.lower(): operation(method) for verb, method in entry.verbs.items()}
    tags = sorted({method.descriptor.containing_service for method in known}, key=lambda service: service.name)
    taken, given = ({getattr(method, side) for method in known} for side in ("takes", "gives"))
    described = contract.comments()
    return {
        "openapi": "3.1.0",
        "info": openapi_fixed.info(version),
        "security": [{"key": []}],
        "tags": [{"name": tag.name, "description": described.get(tag.full_name, tag.name)} for tag in tags]
        + openapi_fixed.TAGS,
        "paths": dict(sorted(paths.items())) | openapi_fixed.PATHS,
        "components": {
            **openapi_fixed.COMPONENTS,
            "schemas": schemas.components(taken, given) | openapi_fixed.SCHEMAS,
        },
    }


def operation(method: Method) -> Json:
    """The operation object of one method."""
    comment = contract.comments().get(method.descriptor.full_name, method.descriptor.name)
    found: Json = {
        "operationId": method.descriptor.name,
        "tags": [method.descriptor.containing_service.name],
        "summary": comment.split(". ")[0].rstrip("."),
        "description": comment,
        "parameters": [*_parameters(method), *_headers(method)],
        "responses": _responses(method),
        "x-permission": method.policy.permission,
        "x-cost": method.policy.cost or 1,
        "x-effect": options_pb2.Effect.Name(method.policy.effect).removeprefix("EFFECT_").lower(),
    }
    if method.body == "*":
        body = schemas.body(method.takes, routes.parameters(method.route))
        found["requestBody"] = {"content": {"application/json": {"schema": body}}, "required": "required" in body}
    elif method.body:
        found["requestBody"] = {"content": {"application/octet-stream": {"schema": {}}}, "required": True}
    return found


def _parameters(method: Method) -> list[Json]:
    """The parameters of path and query."""
    fields = method.takes.fields_by_name
    inside = routes.parameters(method.route)
    found = [_parameter(fields[name], "path", name) for name in inside]
    if method.body != "*":
        rest = [field for field in method.takes.fields if field.name not in (*inside, method.body)]
        for field in rest:
            found += _query(field)
    return found


def _query(field: FieldDescriptor) -> list[Json]:
    kind = field.message_type
    if kind and not kind.full_name.startswith("google.protobuf."):
        return [_parameter(inner, "query", f"{field.name}.{inner.name}") for inner in kind.fields]
    return [_parameter(field, "query", field.name)]


def _parameter(field: FieldDescriptor, place: str, name: str) -> Json:
    shape = schemas.schema(field)
    description = shape.pop("description", "")
    found: Json = {"name": name, "in": place, "schema": shape}
    if place == "path":
        if shape.get("type") == "string" and "pattern" not in shape:
            shape["pattern"] = "^[^/]+$"
        found["required"] = True
    elif schemas.needed(field):
        found["required"] = True
    return found | ({"description": description} if description else {})


def _headers(method: Method) -> list[Json]:
    names = list(_SHARED)
    if method.policy.effect == options_pb2.EFFECT_KEYED:
        names.append("IdempotencyKey")
    if method.policy.etag_required:
        names.append("IfMatch")
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def _responses(method: Method) -> Json:
    codes = ["401", "403", "404", "422", "429"]
    if method.policy.etag_required:
        codes += ["412", "428"]
    problems = {code: {"$ref": "#/components/responses/Problem"} for code in [*codes, "default"]}
    return {("202" if method.long_work else "200"): _done(method)} | problems


def _done(method: Method) -> Json:
    shape = schemas.reference(method.gives)
    content: dict[str, Any] = {"application/json": {"schema": shape}}
    if method.gives.full_name == HTTP_BODY:
        content = {"*/*": {"schema": {}}}
    elif method.descriptor.server_streaming:
        content = {
            "text/event-stream": {"schema": {"type": "string", "description": "events whose data is one message"}},
            "application/x-ndjson": {"schema": {"type": "string", "description": "one message a line"}},
        }
    described = contract.comments().get(method.gives.full_name, "done")
    headers: Json = {"X-Request-Id": {"schema": {"type": "string"}}}
    if "etag" in method.gives.fields_by_name:
        headers["ETag"] = {"schema": {"type": "string"}, "description": "to be sent as If-Match"}
    if method.long_work:
        headers["Location"] = {"schema": {"type": "string"}, "description": "where the operation is"}
    return {"description": described, "content": content, "headers": headers}
