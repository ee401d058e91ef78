"""Filters of personal data: where, and what is done with what is found."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from services.kit import resources
from services.kit.errors import Code, Failure, NotFound, invalid, match_etag

MOST = 20  # filters of one tenant
_METHOD = re.compile(r"(\*|[A-Z][A-Za-z]*/(\*|[A-Z][A-Za-z]*\*?))\Z")
_MODEL = re.compile(r"(\*|[a-z][a-z0-9_-]{0,61}\*?)\Z")
_STREAM = re.compile(r"(\*|[a-z]+/(\*|[A-Za-z0-9_.-]{1,80}\*?))\Z")
_RULES = {
    "methods": (_METHOD, "must be a method as Models/CreateModel, Models/*, or *"),
    "models": (_MODEL, "must be a model, the beginning of one and *, or *"),
    "streams": (_STREAM, "must be a stream as trainer/jobs, trainer/*, or *"),
}


class PrivacyRule(NamedTuple):
    """A detector, the number of its action in the contract, and the pattern of one of the tenant's own."""

    detector: str
    action: int
    pattern: str = ""


@dataclass(frozen=True)
class PrivacyFilter:
    """One filter; the generation grows with each change."""

    privacy_filter: str
    tenant: str
    description: str
    methods: tuple[str, ...]
    models: tuple[str, ...]
    streams: tuple[str, ...]
    answers: bool
    rules: tuple[PrivacyRule, ...]
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None = None
    generation: int = 1


def check(wanted: PrivacyFilter) -> None:
    """Raises invalid_value for a filter that is for nothing, or does nothing, or asks a detector twice."""
    for field, (pattern, rule) in _RULES.items():
        for index, value in enumerate(getattr(wanted, field)):
            if not pattern.match(value):
                raise invalid(f"/{field}/{index}", rule)
    if not (wanted.methods or wanted.models or wanted.streams):
        raise invalid("/models", "must be set unless methods or streams are")
    if not wanted.rules:
        raise invalid("/rules", "must not be empty")
    seen = set[str]()
    for index, one in enumerate(wanted.rules):
        if not one.action:
            raise invalid(f"/rules/{index}/action", "must be set")
        if one.detector in seen:
            raise invalid(f"/rules/{index}/detector", "must come once")
        seen.add(one.detector)


def room(filters: Sequence[PrivacyFilter]) -> None:
    """Raises limit_exceeded when a tenant has as many as it can have."""
    if sum(not one.delete_time for one in filters) >= MOST:
        raise Failure(Code.LIMIT_EXCEEDED, f"there are {MOST} privacy filters, and no more are possible")


def live(found: PrivacyFilter) -> None:
    """Raises not_found for one that is deleted."""
    if found.delete_time:
        raise NotFound(f"there is no privacy filter {found.privacy_filter}")


def changed(found: PrivacyFilter, change: dict[str, Any], etag: str, now: datetime) -> PrivacyFilter:
    """The filter after an update. Raises not_found, etag_mismatch, invalid_value."""
    live(found)
    match_etag(etag, found.generation, found.privacy_filter)
    new = resources.changed(found, now, **change)
    check(new)
    return new


def deleted(found: PrivacyFilter, etag: str, now: datetime) -> PrivacyFilter:
    """The filter, deleted. Raises not_found, etag_mismatch."""
    live(found)
    match_etag(etag, found.generation, found.privacy_filter)
    return resources.changed(found, now, delete_time=now)
