"""Subscriptions: managing them, and turning records that match into deliveries."""

import asyncio
import base64
import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache, partial
from urllib.parse import quote

import orjson

from services.kit import pages
from services.kit.auth import Scope
from services.kit.db import Once
from services.kit.errors import Failure, InvalidValue, Violation
from services.kit.pages import Page
from services.kit.resources import changed
from services.kit.secrets import Vault
from services.kit.timestamps import uuid7
from services.logs.domain import Record
from services.logs.following import follow
from services.logs.ingest.segments import Position
from services.logs.ingest.service import Ingest, Stored, numbered_records
from services.logs.search.domain import All, Not, Query, matches, parse
from services.logs.search.index import Window
from services.logs.search.service import Search
from services.logs.subscriptions.channel import Channels
from services.logs.subscriptions.domain import (
    DEAD,
    PENDING,
    Created,
    Delivery,
    Message,
    Subscription,
    check_template,
    content,
    render,
)
from services.logs.subscriptions.store import Deliver, Matched, Store
from services.logs.tables import shared_fields

log = logging.getLogger(__name__)
_FOLLOWER = "subscriptions"
_EXAMPLES = 5


@dataclass(frozen=True)
class Preview:
    """What a filter matches in the last hour, and the message of the newest record."""

    matched: int
    examples: Sequence[Record]
    subject: str
    body: str


@dataclass(frozen=True)
class Change:
    """New values of a subscription's fields; None: unchanged."""

    description: str | None = None
    filter: str | None = None
    url: str | None = None
    template: tuple[str, str] | None = None


class Subscriptions:
    """Webhooks for matching records, whose delivery rows are written in the transaction of the position."""

    def __init__(
        self,
        store: Store,
        ingest: Ingest,
        search: Search,
        channels: Channels,
        vault: Vault,
        now: Callable[[], datetime],
    ) -> None:
        self._store, self._ingest, self._search = store, ingest, search
        self._channels, self._vault, self._now = channels, vault, now
        self.on_due: Callable[[], None] = lambda: None

    async def create(self, scope: Scope, name: str, wanted: Change, once: Once | None) -> Created:
        """A new subscription and its signing secret.

        Raises query_invalid, template_invalid, egress_denied, already_exists.
        """
        await self._store.recall(once)
        subject, body = wanted.template or ("", "")
        now = self._now()
        made = Subscription(
            name,
            wanted.description or "",
            wanted.filter or "",
            wanted.url or "",
            subject,
            body,
            create_time=now,
            update_time=now,
            start=self._ingest.sequence,
        )
        await self._check(made)
        secret = os.urandom(24)
        sealed, shown = self._vault.seal(secret, context_of(scope, name)), base64.b64encode(secret).decode()
        return await self._store.create(scope, Created(made, f"whsec_{shown}"), sealed, once)

    async def _check(self, one: Subscription) -> None:
        if not one.filter:
            raise InvalidValue("filter must be set", [Violation("/filter", "must be set")])
        parse(one.filter)
        check_template(one.subject)
        check_template(one.body)
        await self._channels.of(one.url).check(one.url)

    async def get(self, scope: Scope, name: str) -> Subscription:
        """Raises not_found."""
        return await self._store.get(scope, name)

    async def list(self, scope: Scope, size: int, token: str, deleted: bool) -> Page[Subscription]:
        """By name."""
        last = pages.after(token, str)
        return await self._store.list(scope, pages.size(size), str(last[0]) if last else "", deleted)

    async def update(self, scope: Scope, name: str, etag: str, change: Change) -> Subscription:
        """Changes the given fields. A new filter applies to records from now on. Raises not_found, etag_mismatch."""
        await self._check(self._changed(await self._store.get(scope, name), change))
        return await self._store.change(scope, name, etag, lambda old: self._changed(old, change))

    def _changed(self, old: Subscription, change: Change) -> Subscription:
        subject, body = change.template if change.template is not None else (old.subject, old.body)
        new = changed(
            old,
            self._now(),
            description=old.description if change.description is None else change.description,
            filter=old.filter if change.filter is None else change.filter,
            url=old.url if change.url is None else change.url,
            subject=subject,
            body=body,
        )
        return replace(new, start=self._ingest.sequence) if new.filter != old.filter else new

    async def delete(self, scope: Scope, name: str, etag: str) -> Subscription:
        """Deletes it; its open deliveries wait until it is undeleted. Raises not_found, etag_mismatch."""
        now = self._now()
        return await self._store.change(scope, name, etag, lambda old: changed(old, now, delete_time=now))

    async def undelete(self, scope: Scope, name: str) -> Subscription:
        """Restores it, for records from now on. Raises not_found."""

        def back(old: Subscription) -> Subscription:
            if not old.delete_time:
                return old
            return changed(old, self._now(), delete_time=None, start=self._ingest.sequence)

        return await self._store.change(scope, name, "", back, deleted=True)

    async def preview(self, scope: Scope, text: str, subject: str, body: str) -> Preview:
        """Raises query_invalid, template_invalid."""
        parse(text)
        check_template(subject)
        check_template(body)
        hour = Window(since=int((self._now() - timedelta(hours=1)).timestamp() * 1e9))
        matched = await self._search.total(scope, text, hour)
        page = await self._search.search(scope, text, hour, _EXAMPLES, "")
        if not page.items:
            return Preview(matched, (), "", "")
        newest = page.items[0]
        return Preview(matched, page.items, render(subject, newest), message_of(subject, body, newest).body.decode())

    async def deliveries(self, scope: Scope, name: str, size: int, token: str) -> Page[Delivery]:
        """Newest first. Raises not_found."""
        last = pages.after(token, str)
        await self._store.get(scope, name, deleted=True)
        return await self._store.deliveries(scope, name, pages.size(size), str(last[0]) if last else "")

    async def retry(self, scope: Scope, name: str, delivery: str) -> Delivery:
        """Tries a delivery again at once, and restarts its schedule. Raises not_found."""
        await self._store.get(scope, name)
        found = await self._store.retry(scope, name, delivery, self._now())
        self.on_due()
        return found

    async def follow(self) -> None:
        """Matches records as they are logged, until it is cancelled."""
        await follow(_FOLLOWER, self._ingest, self._store.position, self._take)

    async def _take(self, stored: Sequence[Stored], position: Position, write: bool) -> bool:
        watched = await self._store.watched()
        # In a thread, as all that goes through records one by one: requests must not wait for it.
        matched = await asyncio.to_thread(_matched, watched, stored, self._now()) if watched else {}
        if not (matched or write):
            return False
        if await self._store.note(_FOLLOWER, position, matched):
            self.on_due()
        return True


def _matched(watched: Mapping[Scope, Iterable[str]], stored: Sequence[Stored], now: datetime) -> Matched:
    """The matches of each scope's filters. A filter is evaluated once, however many subscriptions have it."""
    records: dict[Scope, list[Stored]] = {}
    for one in stored:
        common = shared_fields(one.record)
        records.setdefault(Scope(common.tenant, common.project), []).append(one)
    made: dict[Scope, dict[str, Deliver]] = {}
    for scope in watched.keys() & records.keys():
        singles = list(numbered_records(records[scope]))
        for text in watched[scope]:
            if found := _hits(text, singles):
                made.setdefault(scope, {})[text] = partial(_deliveries, found, now)
    return made


def _hits(text: str, records: Sequence[tuple[int, Record]]) -> Sequence[tuple[int, Record]]:
    """The records that a filter matches. A bug costs the records that it is met with, and no other subscription."""
    query = _filter(text)
    try:
        return [one for one in records if matches(query, one[1])]
    except Exception:
        log.exception("the filter %r of a subscription failed, and passes records over", text)

    def hit(record: Record) -> bool:
        with contextlib.suppress(Exception):
            return matches(query, record)
        return False

    return [one for one in records if hit(one[1])]


@lru_cache(maxsize=1024)
def _filter(text: str) -> Query:
    """The parsed filter. One that cannot be parsed any more matches nothing, so that others go on."""
    try:
        return parse(text)
    except Failure as failure:
        log.error("the filter %r of a subscription cannot be parsed: %s", text, failure)
        return Not(All())


def _deliveries(
    found: Sequence[tuple[int, Record]], now: datetime, to: Subscription
) -> Sequence[tuple[Delivery, Message]]:
    return [_delivery(to, one, now) for sequence, one in found if sequence >= to.start]


def _delivery(to: Subscription, record: Record, now: datetime) -> tuple[Delivery, Message]:
    made = Delivery(uuid7(), to.subscription, record.record[:64], PENDING, 0, 0, "", now, now)
    try:
        return made, message_of(to.subject, to.body, record)
    except Exception:
        # A bug, which must not keep all others from their deliveries; a retry tells which record it was.
        log.exception("the message of record %s to subscription %s cannot be made", made.record, to.subscription)
        dead = replace(made, state=DEAD, error="the message could not be made", next_attempt_time=None)
        return dead, Message({"content-type": "application/json"}, orjson.dumps({"record": made.record}))


def context_of(scope: Scope, name: str) -> str:
    """The context that a subscription's secret is sealed with."""
    return f"subscription/{scope.tenant}/{scope.project}/{name}"


def message_of(subject: str, body: str, record: Record) -> Message:
    """The message of a record: the rendered template, or the record as JSON if there is none."""
    text = render(body, record).encode() if body else orjson.dumps(content(record))
    try:
        orjson.loads(text)
        kind = "application/json"
    except orjson.JSONDecodeError:
        kind = "text/plain; charset=utf-8"
    headers = {"content-type": kind}
    if subject:
        # A header must be ASCII, so the subject is percent-encoded UTF-8.
        headers["aimass-subject"] = quote(render(subject, record)[:500], safe=" ,.;:!?()/=@+-_")
    return Message(headers, text)
