"""Subscriptions and deliveries in the database."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    Select,
    String,
    UniqueConstraint,
    bindparam,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.engine import Connection, Row

from services.kit import pages, tenancy
from services.kit.auth import Scope
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.errors import AlreadyExists, Code, Failure, NotFound
from services.kit.pages import Page
from services.kit.statements import Claim, one
from services.logs.database import Place, followed, note_followed, schema
from services.logs.subscriptions.domain import PENDING, Created, Delivery, Message, Subscription
from services.logs.subscriptions.watched import Watched

subscriptions = scoped(
    "subscription",
    schema.metadata,
    Column("subscription", String(63), primary_key=True),
    Column("description", String(1000), nullable=False),
    Column("filter", String(4096), nullable=False),
    Column("url", String(2000), nullable=False),
    Column("subject", String(500), nullable=False),
    Column("body", String(20000), nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("delete_time", UtcDateTime),
    Column("start", BigInteger, nullable=False),
    Column("secret", LargeBinary, nullable=False),
)
deliveries = scoped(
    "delivery",
    schema.metadata,
    Column("delivery", String(36), primary_key=True),
    Column("subscription", String(63), nullable=False),
    Column("record", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("response_status", Integer, nullable=False),
    Column("error", String(500), nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("next_attempt_time", UtcDateTime),
    Column("deliver_time", UtcDateTime),
    Column("headers", LargeBinary, nullable=False),
    Column("message", LargeBinary, nullable=False),
    # A record has one delivery per subscription, however often it is matched.
    UniqueConstraint("tenant", "project", "subscription", "record", name="delivery_once"),
    Index("delivery_due", "state", "next_attempt_time"),
)
_LEAD = "deliveries"


@dataclass(frozen=True)
class Due:
    """A delivery that is due, with all that is needed to send it."""

    scope: Scope
    delivery: Delivery
    url: str
    secret: bytes
    message: Message


_FILTERS = 500  # in one statement
# Makes the deliveries of a subscription; `Matched` has one for each scope and filter that has matched.
Deliver = Callable[[Subscription], Iterable[tuple[Delivery, Message]]]
Matched = Mapping[Scope, Mapping[str, Deliver]]


def _due_deliveries() -> Select[Any]:
    table = deliveries
    rank = func.row_number().over(
        partition_by=(table.c.tenant, table.c.project, table.c.subscription), order_by=table.c.next_attempt_time
    )
    ready = (table.c.state == PENDING) & (table.c.next_attempt_time <= bindparam("now"))
    ranked = select(table, rank.label("rank")).where(ready).subquery()
    joined = ranked.join(
        subscriptions,
        (subscriptions.c.tenant == ranked.c.tenant)
        & (subscriptions.c.project == ranked.c.project)
        & (subscriptions.c.subscription == ranked.c.subscription)
        & subscriptions.c.delete_time.is_(None),
    )
    query = select(ranked, subscriptions.c.url, subscriptions.c.secret).select_from(joined)
    # The first ones of all subscriptions before the second ones: else those of a few would leave no room for others.
    return query.where(ranked.c.rank <= bindparam("each")).order_by(ranked.c.rank).limit(1000)


_WATCHED = (
    select(subscriptions.c.tenant, subscriptions.c.project, subscriptions.c.filter)
    .where(subscriptions.c.delete_time.is_(None))
    .distinct()
)
_ONE, _NEW = one(subscriptions, "subscription"), Claim(subscriptions)
_DUE = _due_deliveries()  # made once, as it runs several times a second and making it costs more


class Store:
    """The only SQL of subscriptions."""

    def __init__(self, db: Database, watched: Watched | None = None) -> None:
        self._db, self._watched = db, watched or Watched()
        self.recall = db.recall

    async def create(self, scope: Scope, made: Created, secret: bytes, once: Once | None) -> Created:
        """Raises already_exists, also for a deleted one."""
        new = made.subscription

        def work(connection: Connection) -> Created:
            if not _NEW.first(connection, scope._asdict() | asdict(new) | {"secret": secret}):
                raise AlreadyExists(f"the subscription {new.subscription} exists already, or is deleted")
            return made

        self._watched.comes(scope, new.filter)
        return await self._db.write(work, once)

    async def get(self, scope: Scope, name: str, deleted: bool = False) -> Subscription:
        """Raises not_found; a deleted one is found if `deleted`."""
        return await self._db.read(lambda connection: _live(connection, scope, name, deleted))

    async def list(self, scope: Scope, size: int, after: str, deleted: bool) -> Page[Subscription]:
        """By name."""
        here = within(subscriptions, scope) & (subscriptions.c.subscription > after)
        if not deleted:
            here &= subscriptions.c.delete_time.is_(None)
        query = select(subscriptions).where(here).order_by(subscriptions.c.subscription).limit(size + 1)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        page = pages.cut([_subscription(row) for row in rows], size, lambda one: (one.subscription,))
        return Page(page.items, page.next_token)

    async def change(
        self, scope: Scope, name: str, etag: str, change: Callable[[Subscription], Subscription], deleted: bool = False
    ) -> Subscription:
        """Changes one if the etag is the present one or empty. Raises not_found, etag_mismatch."""

        def work(connection: Connection) -> Subscription:
            old = _live(connection, scope, name, deleted)
            if etag and etag != old.etag:
                raise Failure(Code.ETAG_MISMATCH, f"{name} has changed: its etag is {old.etag}")
            new = change(old)
            self._watched.comes(scope, new.filter)
            here = within(subscriptions, scope) & (subscriptions.c.subscription == name)
            connection.execute(update(subscriptions).where(here).values(asdict(new)))
            return new

        return await self._db.run(work)

    async def secrets(self) -> Sequence[tuple[Scope, str, bytes]]:
        """All sealed secrets, also of deleted subscriptions, with their scopes and names."""
        query = select(
            subscriptions.c.tenant, subscriptions.c.project, subscriptions.c.subscription, subscriptions.c.secret
        )
        with tenancy.everybody():
            rows = await self._db.read(lambda connection: connection.execute(query).all())
        return [(Scope(row.tenant, row.project), row.subscription, row.secret) for row in rows]

    async def renew_secret(self, scope: Scope, name: str, old: bytes, new: bytes) -> bool:
        """Replaces a secret; false if it was not the old one any more."""
        here = within(subscriptions, scope) & (subscriptions.c.subscription == name) & (subscriptions.c.secret == old)
        change = update(subscriptions).where(here).values(secret=new)
        with tenancy.everybody():
            return bool(await self._db.run(lambda connection: connection.execute(change).rowcount))

    async def forget_secrets(self, tenant: str) -> None:
        """Deletes all secrets of a tenant."""
        change = update(subscriptions).where(subscriptions.c.tenant == tenant).values(secret=b"")
        with tenancy.everybody():
            await self._db.run(lambda connection: connection.execute(change))

    async def position(self, name: str) -> Place:
        """The position of a follower."""
        return await self._db.read(lambda connection: followed(connection, name))

    async def watched(self) -> Mapping[Scope, Sequence[str]]:
        """The filters of all subscriptions by scope; for some seconds also those of deleted ones."""
        alone = schema.tenure.alone or not schema.tenure.in_company
        if not alone or self._watched.old:
            began = self._watched.clock()
            rows = await self._db.read(lambda connection: connection.execute(_WATCHED).all())
            self._watched.read([(Scope(row.tenant, row.project), row.filter) for row in rows], began)
        return self._watched.filters()

    async def note(self, name: str, place: Place, matched: Matched) -> int:
        """Writes the deliveries of matches, and the position, in one transaction; returns how many are new."""

        def work(connection: Connection) -> int:
            made = 0
            for scope, filters in matched.items():
                for to in _subscriptions(connection, scope, filters):
                    made += sum(_deliver(connection, scope, *each) for each in filters[to.filter](to))
            note_followed(connection, name, place)
            return made

        return await self._db.run(work)

    async def leads(self) -> bool:
        """Whether this process sends: of those that share a database one does, which holds a lease."""
        return schema.tenure.holds(_LEAD) or bool(await schema.tenure.take([_LEAD]))

    async def due(self, now: datetime, each: int) -> Sequence[Due]:
        """Deliveries that are due, at most `each` of a subscription, so that one with many does not delay others."""
        asked = {"now": now, "each": each}
        rows = await self._db.read(lambda connection: connection.execute(_DUE, asked).all())
        return [_due(row) for row in rows]

    async def settle(self, scope: Scope, delivery: str, **values: Any) -> None:
        """Writes the result of a try."""
        here = within(deliveries, scope) & (deliveries.c.delivery == delivery)
        await self._db.run(
            lambda connection: connection.execute(update(deliveries).where(here).values(values)) and None
        )

    async def deliveries(self, scope: Scope, subscription: str, size: int, before: str) -> Page[Delivery]:
        """Newest first."""
        here = within(deliveries, scope) & (deliveries.c.subscription == subscription)
        if before:
            here &= deliveries.c.delivery < before
        query = select(deliveries).where(here).order_by(deliveries.c.delivery.desc()).limit(size + 1)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return pages.cut([_delivery(row) for row in rows], size, lambda one: (one.delivery,))

    async def retry(self, scope: Scope, subscription: str, delivery: str, now: datetime) -> Delivery:
        """Makes a delivery due now. Raises not_found."""
        here = within(deliveries, scope) & (deliveries.c.delivery == delivery)
        here &= deliveries.c.subscription == subscription

        def work(connection: Connection) -> Delivery:
            again = {"state": PENDING, "attempts": 0, "next_attempt_time": now}
            connection.execute(update(deliveries).where(here).values(again))
            row = connection.execute(select(deliveries).where(here)).first()
            if row is None:
                raise NotFound(f"{subscription} has no delivery {delivery}")
            return _delivery(row)

        return await self._db.run(work)


def _row(connection: Connection, scope: Scope, name: str) -> Row[Any] | None:
    return connection.execute(_ONE, {**scope._asdict(), "subscription": name}).first()


def _live(connection: Connection, scope: Scope, name: str, deleted: bool) -> Subscription:
    row = _row(connection, scope, name)
    if row is None or (row.delete_time and not deleted):
        raise NotFound(f"there is no subscription {name}")
    return _subscription(row)


def _subscriptions(connection: Connection, scope: Scope, filters: Iterable[str]) -> Iterator[Subscription]:
    here = within(subscriptions, scope) & subscriptions.c.delete_time.is_(None)
    wanted = sorted(filters)
    for at in range(0, len(wanted), _FILTERS):
        some = subscriptions.c.filter.in_(wanted[at : at + _FILTERS])
        yield from [_subscription(row) for row in connection.execute(select(subscriptions).where(here & some)).all()]


def _deliver(connection: Connection, scope: Scope, made: Delivery, message: Message) -> int:
    known = within(deliveries, scope) & (deliveries.c.subscription == made.subscription)
    known &= deliveries.c.record == made.record
    if connection.execute(select(deliveries.c.delivery).where(known)).first():
        return 0
    headers = "\n".join(f"{name}: {value}" for name, value in message.headers.items()).encode()
    row = scope._asdict() | asdict(made) | {"headers": headers, "message": message.body}
    connection.execute(insert(deliveries).values(row))
    return 1


def _subscription(row: Row[Any]) -> Subscription:
    return Subscription(**{field.name: getattr(row, field.name) for field in fields(Subscription)})


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(**{field.name: getattr(row, field.name) for field in fields(Delivery)})


def _due(row: Row[Any]) -> Due:
    headers = dict(line.split(": ", 1) for line in row.headers.decode().splitlines())
    return Due(Scope(row.tenant, row.project), _delivery(row), row.url, row.secret, Message(headers, row.message))
