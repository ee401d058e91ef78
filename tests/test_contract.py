"""The contract itself: every method says who may call it, what a repeat does, and what it promises."""

import re

import pytest

from aimass.v1 import options_pb2
from services.kit import contract
from services.kit.contract import Method

METHODS = sorted(contract.all_methods().values(), key=lambda method: method.path)


def path(method: Method) -> str:
    return method.path[1:]


def test_there_are_methods() -> None:
    assert len(METHODS) > 100


@pytest.mark.parametrize("method", METHODS, ids=path)
def test_a_method_says_everything(method: Method) -> None:
    policy = method.policy

    assert contract.comments().get(path(method).replace("/", ".")), "no comment"
    assert policy.audience != options_pb2.AUDIENCE_UNSPECIFIED
    assert policy.effect != options_pb2.EFFECT_UNSPECIFIED
    assert policy.resource
    assert method.owner
    assert bool(method.verb) == method.public, "public methods have a route, internal ones have none"
    assert policy.permission or method.descriptor.name in ("WhoAmI", "GetReceiptKey")


@pytest.mark.parametrize("method", [m for m in METHODS if m.verb], ids=path)
def test_a_route_fits_its_method(method: Method) -> None:
    fields = set(method.takes.fields_by_name)
    in_path = set(re.findall(r"{(\w+)}", method.route))

    assert in_path <= fields
    assert set(re.findall(r"{(\w+)}", method.policy.resource)) <= fields
    assert method.route.startswith("/v1/")
    if method.verb == "GET":
        assert method.policy.effect == options_pb2.EFFECT_SAFE
        assert not method.body
    if method.verb == "DELETE":
        assert method.policy.effect != options_pb2.EFFECT_SAFE
    if method.verb in ("PATCH", "DELETE") and method.descriptor.name != "RevokeApiKey":
        assert method.policy.etag_required, "update and delete need If-Match"


CHANGED = [m for m in METHODS if m.public and m.descriptor.name.startswith(("Update", "Delete"))]


@pytest.mark.parametrize("method", [m for m in CHANGED if "etag" in m.gives.fields_by_name], ids=path)
def test_updates_and_deletions_of_things_with_etags_need_one(method: Method) -> None:
    assert method.policy.etag_required


@pytest.mark.parametrize("method", [m for m in METHODS if m.verb and "{" in m.policy.resource], ids=path)
def test_what_names_a_second_thing_needs_more_than_the_right_on_the_first(method: Method) -> None:
    own = set(re.findall(r"{(\w+)}", method.policy.resource))
    named = {f.name for f in method.takes.fields if f.GetOptions().Extensions[options_pb2.field].name}

    assert named <= own or method.policy.names_others


@pytest.mark.parametrize("method", [m for m in METHODS if m.descriptor.name.startswith("List")], ids=path)
def test_every_list_is_paged(method: Method) -> None:
    assert {"page_size", "page_token"} <= set(method.takes.fields_by_name)
    assert "next_page_token" in method.gives.fields_by_name


@pytest.mark.parametrize("method", [m for m in METHODS if m.verb], ids=path)
def test_every_field_that_a_caller_fills_is_described_or_plain(method: Method) -> None:
    for field in method.takes.fields:
        policy = field.GetOptions().Extensions[options_pb2.field]
        assert policy.max_length >= 0
        assert not (policy.name and field.type != field.TYPE_STRING)


def test_routes_are_unique() -> None:
    routes = [(method.verb, re.sub(r"{\w+}", "{}", method.route)) for method in METHODS if method.verb]

    assert len(routes) == len(set(routes))
