"""What all resources of the data centre have in common: a generation, which is their etag, and deletion that hides."""

from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, TypeVar, cast

from services.kit.errors import Code, Failure


class Resource(Protocol):
    """A dataclass that also has `update_time`."""

    @property
    def generation(self) -> int: ...

    @property
    def delete_time(self) -> datetime | None: ...


R = TypeVar("R", bound=Resource)


def expect(etag: str, generation: int, name: str) -> None:
    """Raises etag_mismatch when a caller saw another generation; an empty etag or `*` matches all."""
    if etag not in ("", "*", str(generation)):
        raise Failure(Code.ETAG_MISMATCH, f"{name} has changed: its etag is {generation}")


def changed(resource: R, now: datetime, **values: object) -> R:
    """The next generation of a resource, with these values."""
    return cast(R, replace(cast(Any, resource), generation=resource.generation + 1, update_time=now, **values))


def deleted(resource: R, name: str, etag: str, now: datetime) -> R:
    """The resource, hidden; one that is hidden already stays as it is. Raises etag_mismatch."""
    if resource.delete_time:
        return resource
    expect(etag, resource.generation, name)
    return changed(resource, now, delete_time=now)


def undeleted(resource: R, now: datetime) -> R:
    """The resource, visible; one that is not hidden stays as it is."""
    return changed(resource, now, delete_time=None) if resource.delete_time else resource
