import json
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from services.gateway.api import openapi
from services.kit import contract
from services.kit.errors import Code

METHODS = [method for method in contract.all_methods().values() if method.public]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(json.dumps(openapi.document(METHODS, "1.2.3")))  # type: ignore[no-any-return]


def operation(document: dict[str, Any], path: str, verb: str) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][path][verb]
    return found


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_every_public_method_has_its_operation(document: dict[str, Any]) -> None:
    named = {found["operationId"] for verbs in document["paths"].values() for found in verbs.values()}

    assert {method.descriptor.name for method in METHODS if method.verb} <= named
    assert not any("SnapshotReleases" in name or "LeaseJob" in name for name in named)


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    bare = [
        f"{verb} {path}"
        for path, verbs in document["paths"].items()
        for verb, found in verbs.items()
        if not found.get("summary") or "default" not in found["responses"]
    ]

    assert bare == []


def test_descriptions_are_the_comments_of_the_contract(document: dict[str, Any]) -> None:
    made = operation(document, "/v1/tenants", "post")

    assert made["description"].startswith("Creates a tenant. already_exists")
    assert made["summary"] == "Creates a tenant"
    bucket = document["components"]["schemas"]["RateLimit"]
    assert bucket["description"] == "A token bucket for the calls of one API key."


def test_examples_and_rules_of_fields_are_there(document: dict[str, Any]) -> None:
    body = operation(document, "/v1/tenants", "post")["requestBody"]["content"]["application/json"]["schema"]

    assert body["required"] == ["tenant"]
    assert body["additionalProperties"] is False
    assert body["properties"]["tenant"]["examples"] == ["acme"]
    assert body["properties"]["tenant"]["pattern"] == "^[a-z][a-z0-9_-]{0,62}$"
    assert body["properties"]["display_name"]["maxLength"] == 200


def test_bounds_are_said_of_what_callers_write_and_not_of_what_they_read(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    assert "maxLength" not in schemas["PreviewSubscriptionResponse"]["properties"]["body"]
    assert "maxItems" not in schemas["SearchLogsResponse"]["properties"]["records"]
    assert schemas["SqlSource"]["properties"]["table"]["maxLength"] == 128


def test_what_the_path_holds_is_not_in_the_body(document: dict[str, Any]) -> None:
    found = operation(document, "/v1/models/{model}/versions/{version}:promote", "post")
    body = found["requestBody"]["content"]["application/json"]["schema"]

    assert {p["name"] for p in found["parameters"] if p.get("in") == "path"} == {"model", "version"}
    assert not {"model", "version"} & body["properties"].keys()


def names(found: dict[str, Any]) -> set[str]:
    return {parameter.get("$ref", "").rpartition("/")[2] for parameter in found["parameters"]}


def test_headers_are_asked_for_where_they_count(document: dict[str, Any]) -> None:
    assert "IdempotencyKey" in names(operation(document, "/v1/tenants", "post"))
    assert "IdempotencyKey" not in names(operation(document, "/v1/tenants", "get"))
    assert "IfMatch" in names(operation(document, "/v1/tenants/{tenant}", "delete"))
    assert "XProject" in names(operation(document, "/v1/models", "get"))


def test_long_work_answers_202_and_says_where(document: dict[str, Any]) -> None:
    responses = operation(document, "/v1/jobs", "post")["responses"]

    assert "200" not in responses
    assert "Location" in responses["202"]["headers"]


def test_uploads_downloads_and_streams_have_their_content_types(document: dict[str, Any]) -> None:
    upload = operation(document, "/v1/uploads/{upload}", "put")["requestBody"]["content"]
    download = operation(document, "/v1/artifacts/{digest}", "get")["responses"]["200"]["content"]
    stream = operation(document, "/v1/logs:tail", "get")["responses"]["200"]["content"]

    assert (list(upload), list(download)) == (["application/octet-stream"], ["*/*"])
    assert list(stream) == ["text/event-stream", "application/x-ndjson"]


def test_a_key_is_needed_everywhere_but_for_health_and_for_logging_in(document: dict[str, Any]) -> None:
    opened = {path for path, verbs in document["paths"].items() for v in verbs.values() if v.get("security") == []}

    assert document["security"] == [{"key": []}]
    assert opened == {"/health/live", "/health/ready", "/v1/login"}


def test_permissions_and_problems_are_told(document: dict[str, Any]) -> None:
    problem = document["components"]["schemas"]["Problem"]

    assert operation(document, "/v1/models/{model}", "get")["x-permission"] == "models.get"
    assert operation(document, "/v2/models/{model}/infer", "post")["x-permission"] == "models.infer"
    assert set(problem["properties"]["code"]["enum"]) == {code.text for code in Code}
