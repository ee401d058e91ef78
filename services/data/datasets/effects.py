"""What else happens in the transaction of a commit, and who looks at new versions before it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy.engine import Connection

from services.data.datasets.domain import DataSetVersion, NewVersion
from services.data.datasets.store import AllEffects, Effects
from services.kit.auth import Scope
from services.kit.errors import Failure


class Refused(Exception):
    """What the effects of a commit refuse: trying again changes nothing."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


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
