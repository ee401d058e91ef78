"""What resources have in common: each change is a generation, a deletion only hides, and labels have a form."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, TypeVar, cast

from services.kit.errors import Violation, match_etag, pointer_part

_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}=[A-Za-z0-9._-]{1,63}\Z")


class Resource(Protocol):
    """A dataclass that also has `update_time`."""

    @property
    def generation(self) -> int: ...

    @property
    def delete_time(self) -> datetime | None: ...


R = TypeVar("R", bound=Resource)


def changed(resource: R, now: datetime, **values: object) -> R:
    """The next generation of a resource, with these values."""
    return cast(R, replace(cast(Any, resource), generation=resource.generation + 1, update_time=now, **values))


def deleted(resource: R, name: str, etag: str, now: datetime) -> R:
    """The resource, hidden; one that is hidden already stays as it is. Raises etag_mismatch."""
    if resource.delete_time:
        return resource
    match_etag(etag, resource.generation, name)
    return changed(resource, now, delete_time=now)


def undeleted(resource: R, now: datetime) -> R:
    """The resource, visible; one that is not hidden stays as it is."""
    return changed(resource, now, delete_time=None) if resource.delete_time else resource


def wrong_labels(labels: Mapping[str, str], at: str) -> Iterator[tuple[str, Violation]]:
    """The names of labels that break the rule, each with its violation below the pointer `at`."""
    rule = "must be a name with a value of 1 to 63 letters, digits, dots, underscores and dashes"
    for name, value in labels.items():
        if not _LABEL.match(f"{name}={value}"):
            yield name, Violation(f"{at}/{pointer_part(name)}", rule)
