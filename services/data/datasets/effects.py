"""What else happens in the transaction of a commit, and who looks at new versions before it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy.engine import Connection

from services.data.datasets.domain import DataSetVersion, Head, NewVersion
from services.data.datasets.layouts import Layout
from services.data.datasets.store import AllEffects, Effects
from services.kit.auth import Scope
from services.kit.errors import Code, Failure


class Refused(Exception):
    """What the effects of a commit refuse: trying again changes nothing."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


class Undivided(Exception):
    """The new rows of a commit are not divided as the data sets have it: these are their layouts now."""

    def __init__(self, layouts: Sequence[Layout | None]) -> None:
        self.layouts = layouts


def check_divided(heads: Sequence[Head], news: Sequence[NewVersion]) -> None:
    """Raises Undivided; Refused with conflict for a rewrite of a version that is not the newest any more."""
    layouts = []
    for head, new in zip(heads, news, strict=True):
        if new.rewrites and new.rewrites != head.data_set.latest_version:
            raise Refused(Failure(Code.CONFLICT, f"{new.data_set} got another version in the meantime"))
        layouts.append(new.layout if new.is_old else head.data_set.layout)
    if any(new.layout != layout for new, layout in zip(news, layouts, strict=True)):
        raise Undivided(layouts)


class Inspector(Protocol):
    """Looks at new versions before they are committed."""

    async def inspected(self, scope: Scope, new: NewVersion, now: datetime) -> NewVersion: ...

    def keep(self, connection: Connection, scope: Scope, made: DataSetVersion, new: NewVersion) -> None: ...


def of_one(effects: Effects) -> AllEffects:
    """The effects of a commit of one data set, for one of several."""
    return lambda connection, versions: effects(connection, versions[0])


def keeping(inspector: Inspector, scope: Scope, news: Sequence[NewVersion], effects: AllEffects | None) -> AllEffects:
    """What an inspector keeps of new versions, then the effects."""

    def run(connection: Connection, versions: Sequence[DataSetVersion]) -> None:
        for made, new in zip(versions, news, strict=True):
            inspector.keep(connection, scope, made, new)
        if effects:
            effects(connection, versions)

    return run


def refusing(effects: AllEffects) -> AllEffects:
    """The effects, whose failures are told from those of the commit."""

    def run(connection: Connection, versions: Sequence[DataSetVersion]) -> None:
        try:
            effects(connection, versions)
        except Failure as failure:
            raise Refused(failure) from failure

    return run
