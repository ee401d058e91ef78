"""The parts of the OpenAPI document that are not in the contract: security, headers, problems, health, predictions."""

from typing import Any

from services.kit.errors import Code

Json = dict[str, Any]
TEXT: Json = {"type": "string"}


def info(version: str) -> Json:
    """The info object."""
    return {
        "title": "AI Mass",
        "version": version,
        "summary": "Raw data becomes served, watched models.",
        "description": "Names of fields are those of the protos, 64-bit integers are strings, times are RFC 3339 in "
        "UTC, unknown fields are refused. Errors are problem documents (RFC 9457) with a `code`. Long work answers 202 "
        "and an operation. Everything is also there over gRPC.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    }


def _header(name: str, description: str, required: bool = False, **shape: Any) -> Json:
    found: Json = {"name": name, "in": "header", "description": description, "schema": TEXT | shape}
    return found | ({"required": True} if required else {})


COMPONENTS: Json = {
    "securitySchemes": {
        "key": {"type": "http", "scheme": "bearer", "description": "An API key: aim_..."},
        "page": {"type": "http", "scheme": "basic", "description": "For pages in a browser: the key as password."},
    },
    "parameters": {
        "XProject": _header("X-Project", "The project; `default` if unset.", pattern="^[a-z][a-z0-9_-]{0,62}$"),
        "XRequestId": _header("X-Request-Id", "A name for the request, found again in logs and traces.", maxLength=128),
        "XRequestTimeout": _header(
            "X-Request-Timeout", "Seconds that the answer may take.", pattern="^[1-9][0-9]{0,4}$"
        ),
        "IdempotencyKey": _header(
            "Idempotency-Key",
            "A call that is repeated with the same key has one effect and one answer, for 24 hours.",
            maxLength=255,
            pattern="^[!-~]+$",
        ),
        "IfMatch": _header("If-Match", "The ETag of the object as the caller knows it.", True, pattern='^"[0-9]+"$'),
    },
    "responses": {
        "Problem": {
            "description": "A failure that the caller can act on",
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    },
}
SCHEMAS: Json = {
    "Problem": {
        "type": "object",
        "description": "RFC 9457, with a code for programs and a request id for people.",
        "required": ["type", "title", "status", "detail", "instance", "code", "request_id"],
        "properties": {
            "type": TEXT,
            "title": TEXT,
            "status": {"type": "integer"},
            "detail": TEXT,
            "instance": TEXT,
            "code": {"type": "string", "enum": sorted(code.text for code in Code)},
            "request_id": TEXT,
            "violations": {
                "type": "array",
                "items": {"type": "object", "properties": {"pointer": TEXT, "rule": TEXT}},
            },
            "retry_after_ms": {"type": "integer"},
            "committed_size": {"type": "integer"},
            "error": TEXT,
        },
    },
    "Tensor": {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": TEXT,
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": {"type": "string", "examples": ["FP32"]},
            "parameters": {"type": "object"},
            "data": {"type": "array"},
        },
    },
}
TAGS: list[Json] = [
    {"name": "Predictions", "description": "The Open Inference Protocol, version 2."},
    {"name": "Login", "description": "The issuers that people log in with; their tokens are used in place of keys."},
    {"name": "Health", "description": "Whether the process lives and whether it can answer."},
]
_PROBLEM = {"$ref": "#/components/responses/Problem"}


def _answer(description: str, properties: Json) -> Json:
    schema = {"type": "object", "properties": properties}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _get(name: str, tag: str, summary: str, properties: Json, **more: Any) -> Json:
    responses = {"200": _answer(summary, properties), "default": _PROBLEM}
    return {"get": {"operationId": name, "tags": [tag], "summary": summary, "responses": responses, **more}}


def _named(*names: str) -> list[Json]:
    shared = [{"$ref": "#/components/parameters/XProject"}, {"$ref": "#/components/parameters/XRequestId"}]
    shape = {"model": TEXT | {"pattern": "^[a-z][a-z0-9_-]{0,62}$"}, "version": TEXT | {"pattern": "^[1-9][0-9]{0,8}$"}}
    return [{"name": name, "in": "path", "required": True, "schema": shape[name]} for name in names] + shared


def _infer(name: str, *inside: str) -> Json:
    tensors = {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}}
    request = {
        "type": "object",
        "required": ["inputs"],
        "properties": {"id": TEXT, "parameters": {"type": "object"}, "inputs": tensors, "outputs": {"type": "array"}},
    }
    answer = {"id": TEXT, "model_name": TEXT, "model_version": TEXT, "outputs": tensors}
    return {
        "post": {
            "operationId": name,
            "tags": ["Predictions"],
            "summary": "Predicts" + (" with a version of the caller's choice" if inside[1:] else ""),
            "description": "JSON, or the binary tensor extension with `Inference-Header-Content-Length`. "
            "The header `Model-Version` says which version answered.",
            "parameters": _named(*inside),
            "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
            "responses": {"200": _answer("Outputs", answer), "429": _PROBLEM, "default": _PROBLEM},
            "x-permission": "models.infer",
        }
    }


_MODEL = {"name": TEXT, "versions": {"type": "array"}, "platform": TEXT, "inputs": {"type": "array"}}
_READY = {"name": TEXT, "ready": {"type": "boolean"}}
_FLAG = {"live": {"type": "boolean"}, "ready": {"type": "boolean"}}
_VERSION = "/v2/models/{model}/versions/{version}"
PATHS: Json = {
    "/v2": _get("ServerMetadata", "Predictions", "What the server is", {"name": TEXT, "version": TEXT}),
    "/v2/health/live": _get("ServerLive", "Predictions", "Whether the server lives", _FLAG),
    "/v2/health/ready": _get("ServerReady", "Predictions", "Whether the server can predict", _FLAG),
    "/v2/models/{model}": _get(
        "ModelMetadata", "Predictions", "What a model takes and gives", _MODEL, parameters=_named("model")
    ),
    "/v2/models/{model}/ready": _get(
        "ModelReady", "Predictions", "Whether a model can predict", _READY, parameters=_named("model")
    ),
    "/v2/models/{model}/infer": _infer("Infer", "model"),
    _VERSION: _get(
        "VersionMetadata",
        "Predictions",
        "What a version takes and gives",
        _MODEL,
        parameters=_named("model", "version"),
    ),
    f"{_VERSION}/ready": _get(
        "VersionReady", "Predictions", "Whether a version can predict", _READY, parameters=_named("model", "version")
    ),
    f"{_VERSION}/infer": _infer("InferVersion", "model", "version"),
    "/v1/login": _get(
        "Logins", "Login", "The issuers that people log in with", {"issuers": {"type": "array"}}, security=[]
    ),
    "/health/live": _get("Live", "Health", "Whether the process lives", {"status": TEXT}, security=[]),
    "/health/ready": _get("Ready", "Health", "Whether the process can answer", {"status": TEXT}, security=[]),
}
