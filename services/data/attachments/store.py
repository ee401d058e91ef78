"""Where it is kept what became of the files of data sets, and which files each has."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import BigInteger, Column, Index, String, Text, and_, delete, exists, func, insert, literal, select
from sqlalchemy.engine import Connection, Row

from services.data.attachments.domain import Attached, Attachment, Kept, Outcome, State
from services.data.database import schema
from services.kit.auth import Scope
from services.kit.db import Database, UtcDateTime, scoped, within
from services.kit.listing import listed
from services.kit.pages import Page

# The last outcome of each place that a column of a data set names.
attachment = scoped(
    "attachment",
    schema.metadata,
    Column("data_set", String(63), primary_key=True),
    # Of columns and place, which may be long.
    Column("entry", String(64), primary_key=True),
    Column("column", String(128), nullable=False),
    Column("digests", String(128), nullable=False),
    Column("origin", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(200), nullable=False),
    Column("digest", String(71), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("media_type", String(100), nullable=False),
    Column("extraction", String(64), nullable=False),
    Column("update_time", UtcDateTime, nullable=False),
)
# The files that rows of any version name.
attachment_file = scoped(
    "attachment_file",
    schema.metadata,
    Column("data_set", String(63), primary_key=True),
    Column("digest", String(71), primary_key=True),
    Column("column", String(128), primary_key=True),
    Column("digests", String(128), primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("media_type", String(100), nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
)
Index("attachment_state", *(attachment.c[name] for name in ("tenant", "project", "data_set", "state", "entry")))
_KNOWN = 2000  # places that are read together
_TOGETHER = 400  # rows of a statement: SQLite takes some thousand values


class AttachmentStore:
    """The tables of attachments."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def record(
        self, connection: Connection, scope: Scope, found: Sequence[Attached], extraction: str, now: datetime
    ) -> None:
        """Keeps what became of places in a run, and the files that it has, in the caller's transaction."""
        by_set = dict[str, list[Attached]]()
        for one in found:
            by_set.setdefault(one.data_set, []).append(one)
        for data_set, some in by_set.items():
            for begin in range(0, len(some), _TOGETHER):
                page = some[begin : begin + _TOGETHER]
                _replace(connection, scope, data_set, page, {"extraction": extraction, "update_time": now})
                _add_files(connection, scope, data_set, page, now)

    def branched(self, connection: Connection, scope: Scope, data_set: str, branch: str) -> None:
        """Gives a branch what is kept of its data set, in the transaction that makes it."""
        _copy(connection, scope, data_set, branch)

    def merged(self, connection: Connection, scope: Scope, data_set: str, branch: str) -> None:
        """Gives a data set what is kept of a branch and not of it."""
        _copy(connection, scope, branch, data_set)

    async def list(
        self, scope: Scope, data_set: str, state: State | None, hidden: Collection[str], size: int, token: str
    ) -> Page[Attachment]:
        """In no order that says anything; without those of columns that are hidden."""
        query = select(attachment).where(within(attachment, scope) & (attachment.c.data_set == data_set))
        if state:
            query = query.where(attachment.c.state == state.value)
        if hidden:
            for name in (attachment.c.column, attachment.c.digests):
                query = query.where(name.not_in(sorted(hidden)))
        return await listed(self._db, query, attachment.c.entry, _attachment, size, token)

    async def columns(self, scope: Scope, data_set: str) -> Collection[str]:
        """The columns of a data set that have places, and those with their digests."""
        here = within(attachment, scope) & (attachment.c.data_set == data_set)
        query = select(attachment.c.column, attachment.c.digests).where(here).distinct()
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return {name for row in rows for name in row}

    async def file(self, scope: Scope, data_set: str, digest: str) -> Sequence[Kept]:
        """The file of a digest by the columns that it belongs to; none if the data set has no such file."""
        here = within(attachment_file, scope) & (attachment_file.c.data_set == data_set)
        query = select(attachment_file).where(here & (attachment_file.c.digest == digest))
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return [Kept(row.digest, row.bytes, row.media_type, row.column, row.digests, row.create_time) for row in rows]

    async def known(self, scope: Scope, data_set: str, after: str) -> Sequence[tuple[str, Attached]]:
        """Places whose files are kept, some thousand of them behind an entry, each with its entry."""
        query = select(attachment).where(within(attachment, scope) & (attachment.c.data_set == data_set))
        query = query.where((attachment.c.state == State.KEPT.value) & (attachment.c.entry > after))
        query = query.order_by(attachment.c.entry).limit(_KNOWN)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return [(row.entry, _attachment(row).attached) for row in rows]

    async def page(
        self, scope: Scope, data_set: str, hidden: Collection[str], after: str, among: Collection[str] = ()
    ) -> Sequence[tuple[str, int]]:
        """Digests and bytes of files behind a digest, by digest, some hundred of them; without those of hidden columns.

        `among`: of these digests only, and all of them.
        """
        table = attachment_file.c
        query = select(table.digest, func.max(table.bytes)).where(within(attachment_file, scope))
        query = query.where((table.data_set == data_set) & (table.digest > after))
        if hidden:
            for name in (table.column, table.digests):
                query = query.where(name.not_in(sorted(hidden)))
        query = query.where(table.digest.in_(sorted(among))) if among else query.limit(_TOGETHER)
        query = query.group_by(table.digest).order_by(table.digest)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return [(digest, size) for digest, size in rows]

    async def kept(self) -> Mapping[Scope, int]:
        """Bytes of the files of each project of all tenants, each once."""
        table = attachment_file.c
        each = select(table.tenant, table.project, table.digest, func.max(table.bytes).label("bytes"))
        found = each.group_by(table.tenant, table.project, table.digest).subquery()
        query = select(found.c.tenant, found.c.project, func.sum(found.c.bytes)).group_by(
            found.c.tenant, found.c.project
        )
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return {Scope(tenant, project): int(size) for tenant, project, size in rows}


def _copy(connection: Connection, scope: Scope, source: str, target: str) -> None:
    for table in (attachment, attachment_file):
        known, names = table.alias(), [column.name for column in table.columns]
        keys = [column.name for column in table.primary_key if column.name != "data_set"]
        same = and_(known.c.data_set == target, *(known.c[key] == table.c[key] for key in keys))
        chosen = [literal(target) if name == "data_set" else table.c[name] for name in names]
        rows = select(*chosen).where(within(table, scope) & (table.c.data_set == source))
        connection.execute(insert(table).from_select(names, rows.where(~exists().where(same))))


def _replace(
    connection: Connection, scope: Scope, data_set: str, page: Sequence[Attached], more: Mapping[str, Any]
) -> None:
    rows = {_entry(one): one for one in page}
    here = within(attachment, scope) & (attachment.c.data_set == data_set)
    connection.execute(delete(attachment).where(here & attachment.c.entry.in_(rows)))
    values = [
        {
            **scope._asdict(),
            "data_set": data_set,
            "entry": entry,
            "column": one.column,
            "digests": one.digests,
            "origin": one.origin,
            **one.outcome.to_json(),
            "state": one.outcome.state.value,
            **more,
        }
        for entry, one in rows.items()
    ]
    connection.execute(insert(attachment), values)


def _add_files(connection: Connection, scope: Scope, data_set: str, page: Iterable[Attached], now: datetime) -> None:
    kept = {
        (one.outcome.digest, one.column, one.digests): one.outcome for one in page if one.outcome.state is State.KEPT
    }
    if not kept:
        return
    here = within(attachment_file, scope) & (attachment_file.c.data_set == data_set)
    named = here & attachment_file.c.digest.in_({digest for digest, *_ in kept})
    which = attachment_file.c.digest, attachment_file.c.column, attachment_file.c.digests
    for row in connection.execute(select(*which).where(named)):
        kept.pop(tuple(row), None)
    common = {**scope._asdict(), "data_set": data_set, "create_time": now}
    values = [
        {
            **common,
            "digest": digest,
            "column": column,
            "digests": digests,
            "bytes": outcome.bytes,
            "media_type": outcome.media_type,
        }
        for (digest, column, digests), outcome in kept.items()
    ]
    if values:
        connection.execute(insert(attachment_file), values)


def _entry(one: Attached) -> str:
    return sha256(f"{one.column}\0{one.digests}\0{one.origin}".encode()).hexdigest()


def _attachment(row: Row[Any]) -> Attachment:
    outcome = Outcome(State(row.state), row.reason, row.digest, row.bytes, row.media_type)
    attached = Attached(row.data_set, row.column, row.digests, row.origin, outcome)
    return Attachment(attached, row.extraction, row.update_time)
