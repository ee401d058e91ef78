"""Where rows of the feature store are, and how far they have come."""

from typing import NamedTuple

from services.kit.auth import Scope


class Place(NamedTuple):
    """A version of a view of a tenant."""

    scope: Scope
    feature_view: str
    version: int


class Step(NamedTuple):
    """A transaction that changed rows of a place, by the stamps before and after it."""

    before: int
    after: int


class Standing(NamedTuple):
    """A place with its stamp: whether it is read, is read by default, and is being materialised."""

    place: Place
    stamp: int
    readable: bool
    serving: bool
    running: bool
