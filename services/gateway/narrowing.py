"""Callers as services see them: with those permissions only that the called service can use."""

from dataclasses import replace
from functools import lru_cache

from google.protobuf.message import Message

from services.kit import contract
from services.kit.auth import Principal, grants, matches
from services.kit.contract import ANY, Method


@lru_cache(maxsize=1)
def _permissions() -> dict[str, frozenset[str]]:
    """The permissions that the methods of each service need."""
    found: dict[str, set[str]] = {}
    for method in contract.all_methods().values():
        found.setdefault(method.owner, set()).add(method.policy.permission)
    return {owner: frozenset(needed) for owner, needed in found.items()}


@lru_cache(maxsize=10_000)
def narrowed(principal: Principal, audience: str) -> Principal:
    """The principal with those permissions only that the audience's methods need, and that are for all objects."""
    needed = _permissions().get(audience, frozenset()) | _permissions().get(ANY, frozenset())
    kept = tuple(dict.fromkeys(p for p in principal.permissions if any(need and grants(p, need) for need in needed)))
    return principal if kept == principal.permissions else Principal(principal.scope, principal.id, kept)


def acting(principal: Principal, audience: str, method: Method, request: Message) -> Principal:
    """The principal of a call: with the permissions of `narrowed`, and the one for its object if the call needs it.

    So a token stays small however many objects a caller has permissions for.
    """
    found, permission = narrowed(principal, audience), method.policy.permission
    if found.may(permission):
        return found
    thing = method.thing(request)
    if not (held := principal.by(permission, thing)):
        return found
    here = next(one for one in held.partition("@")[2].split(",") if matches(one, thing))
    return replace(found, permissions=(*found.permissions, f"{permission}@{here}"))
