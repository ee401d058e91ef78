"""Roles, bindings, and the permissions that follow from them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

from services.kit import resources
from services.kit.errors import FailedPrecondition, NotFound, invalid, match_etag

ALL = "*"
_PERMISSION = re.compile(r"(\*|[a-z][a-z_]*\.(\*|[a-z][a-z_]*))\Z")
_PROJECT = re.compile(r"([a-z][a-z0-9_-]{0,62}|[a-z][a-z0-9_-]{0,61}\*)\Z")
_OBJECT = re.compile(r"[a-z][a-z-]{0,62}/([A-Za-z0-9._:/-]{1,80}|[A-Za-z0-9._:/-]{0,79}\*)\Z")
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Role:
    """A set of permissions with a name; the generation grows with each change."""

    role: str
    tenant: str
    description: str
    permissions: tuple[str, ...]
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None = None
    generation: int = 1
    built_in: bool = False


@dataclass(frozen=True)
class Binding:
    """Gives a principal a role. No projects: in all; no objects: for all."""

    binding: str
    tenant: str
    role: str
    principal: str
    projects: tuple[str, ...]
    objects: tuple[str, ...]
    create_time: datetime
    delete_time: datetime | None = None
    generation: int = 1


class Grant(NamedTuple):
    """Permissions of a principal, in some projects and for some objects, or in and for all."""

    permissions: tuple[str, ...]
    projects: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    # What they come from; empty: the holder has them by himself.
    role: str = ""
    binding: str = ""


class Holder(NamedTuple):
    """What a principal may, and when it expires, if it does."""

    grants: tuple[Grant, ...]
    ends: datetime | None = None


@dataclass(frozen=True)
class RoleChange:
    """What an update sets; None leaves it as it is."""

    description: str | None = None
    permissions: tuple[str, ...] | None = None


def built_in(name: str, permissions: Sequence[str]) -> Role:
    """A role that every tenant has."""
    return Role(name, "", f"built in: {name}", tuple(permissions), _NEVER, _NEVER, built_in=True)


def in_project(grants: Iterable[Grant], project: str) -> tuple[str, ...]:
    """The permissions of grants in a project, those for all objects first."""
    found = here(grants, project)
    whole = dict.fromkeys(permission for grant in found if not grant.objects for permission in grant.permissions)
    partly = dict.fromkeys(f"{','.join(g.permissions)}@{','.join(g.objects)}" for g in found if g.objects)
    return (*whole, *partly)


def here(grants: Iterable[Grant], project: str) -> list[Grant]:
    """The grants that count in a project."""
    return [grant for grant in grants if not grant.projects or any(_covers(held, project) for held in grant.projects)]


def roles_in(grants: Iterable[Grant], project: str) -> tuple[str, ...]:
    """The names of the roles of grants in a project."""
    return tuple(dict.fromkeys(grant.role for grant in here(grants, project) if grant.role))


def everywhere(grants: Iterable[Grant]) -> tuple[str, ...]:
    """The permissions of grants in all projects and for all objects."""
    whole = [grant for grant in grants if not grant.projects and not grant.objects]
    return tuple(dict.fromkeys(permission for grant in whole for permission in grant.permissions))


def within_projects(grants: Iterable[Grant], projects: Sequence[str]) -> tuple[Grant, ...]:
    """Grants restricted to some projects; none named: all of them."""
    if not projects:
        return tuple(grants)
    kept = []
    for grant in grants:
        inside = [p for p in projects if not grant.projects or any(_covers(held, p) for held in grant.projects)]
        if inside:
            kept.append(grant._replace(projects=tuple(inside)))
    return tuple(kept)


def within_objects(grants: Iterable[Grant], objects: Sequence[str]) -> tuple[Grant, ...]:
    """Grants restricted to some objects; none named: all of them."""
    if not objects:
        return tuple(grants)
    kept = []
    for grant in grants:
        pairs = [(held, wanted) for held in grant.objects for wanted in objects] or [(one, one) for one in objects]
        inside = [a if _covers(b, a) else b for a, b in pairs if _covers(a, b) or _covers(b, a)]
        if inside:
            kept.append(grant._replace(objects=tuple(dict.fromkeys(inside))))
    return tuple(kept)


def lacking(held: Sequence[Grant], wanted: Grant) -> str:
    """The first permission of a grant that a holder of others cannot hand out; empty when it has all of them."""
    places = [(p, t) for p in wanted.projects or ("",) for t in wanted.objects or ("",)]
    for permission in wanted.permissions:
        if not all(any(_has(grant, permission, *place) for grant in held) for place in places):
            return permission
    return ""


def _has(grant: Grant, permission: str, project: str, thing: str) -> bool:
    """Whether a grant covers a pattern of permissions; an empty project or object stands for all of them."""
    return (
        covers(grant.permissions, permission)
        and (not grant.projects or (bool(project) and any(_covers(held, project) for held in grant.projects)))
        and (not grant.objects or (bool(thing) and any(_covers(held, thing) for held in grant.objects)))
    )


def covers(held: Iterable[str], wanted: str) -> bool:
    """True if one of the patterns held grants everything that the wanted pattern grants."""
    return any(
        pattern in (ALL, wanted) or (pattern.endswith(".*") and wanted.startswith(pattern[:-1])) for pattern in held
    )


def _covers(held: str, wanted: str) -> bool:
    """Whether one pattern has all that another has."""
    return held == wanted or (held.endswith("*") and wanted.startswith(held[:-1]))


def check_permissions(permissions: Sequence[str]) -> None:
    """Raises invalid_value for what no role can hold."""
    if not permissions:
        raise invalid("/permissions", "must not be empty")
    _check("permissions", permissions, _PERMISSION, "must be *, models.* or models.get")


def check_places(projects: Sequence[str], objects: Sequence[str]) -> None:
    """Raises invalid_value for what is no pattern of projects or objects."""
    _check("projects", projects, _PROJECT, "must be a name, or the beginning of one and *")
    _check("objects", objects, _OBJECT, "must be an object as models/late, or models/fraud-*")


def _check(field: str, values: Sequence[str], pattern: re.Pattern[str], rule: str) -> None:
    for index, value in enumerate(values):
        if not pattern.match(value):
            raise invalid(f"/{field}/{index}", rule)


def changed(role: Role, change: RoleChange, etag: str, now: datetime) -> Role:
    """The role after an update. Raises not_found, failed_precondition, etag_mismatch, invalid_value."""
    live(role)
    match_etag(etag, role.generation, role.role)
    if change.permissions is not None:
        check_permissions(change.permissions)
    return resources.changed(
        role,
        now,
        description=role.description if change.description is None else change.description,
        permissions=role.permissions if change.permissions is None else change.permissions,
    )


def live(role: Role) -> None:
    """Raises not_found for a role that is deleted."""
    if role.delete_time:
        raise NotFound(f"there is no role {role.role}")


def deleted(role: Role, etag: str, now: datetime) -> Role:
    """The role, deleted. Raises not_found, etag_mismatch."""
    live(role)
    match_etag(etag, role.generation, role.role)
    return resources.changed(role, now, delete_time=now)


def unbound(binding: Binding, etag: str, now: datetime) -> Binding:
    """The binding, deleted. Raises not_found, etag_mismatch."""
    if binding.delete_time:
        raise NotFound(f"there is no binding {binding.binding}")
    match_etag(etag, binding.generation, binding.binding)
    return replace(binding, delete_time=now, generation=binding.generation + 1)


def bound_again(binding: Binding) -> Binding:
    """The binding, undeleted; one that is not deleted stays as it is."""
    if binding.delete_time is None:
        return binding
    return replace(binding, delete_time=None, generation=binding.generation + 1)


def own(role: Role) -> Role:
    """A role that its tenant made. Raises failed_precondition for one that is built in."""
    if role.built_in:
        raise FailedPrecondition(f"{role.role} is built in")
    return role
