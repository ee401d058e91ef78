"""What resources of the data centre have in common: each change is a generation, and deletion only hides."""

from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, TypeVar, cast

from services.kit.errors import match_etag


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
