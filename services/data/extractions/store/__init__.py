"""Where extractions and their cursors are kept."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from pydantic import TypeAdapter
from sqlalchemy import JSON, BigInteger, Column, Index, Integer, String, insert, select, text, update
from sqlalchemy.engine import Connection, Row

from aimass.v1.operations_pb2 import Operation
from services.data.database import schema
from services.data.extractions.domain import Extraction, Origin, Replay, Shares, State, Task
from services.data.extractions.store import cursors
from services.data.metering import service as metering
from services.data.metering.domain import DEFAULT_BUDGET, CpuBudget
from services.data.reading.kinds import compiled_from_json, compiled_to_json, source_from_json, to_json
from services.data.rule_sets.domain import Match, Member
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.db import Database, Once, UtcDateTime, scoped, within
from services.kit.errors import Code, FailedPrecondition, Failure, NotFound
from services.kit.listing import listed
from services.kit.pages import Page

_RUNNING = text("state = 'running'")
_extraction = scoped(
    "extraction",
    schema.metadata,
    Column("extraction", String(36), primary_key=True),
    Column("rule", String(63), nullable=False),
    Column("rule_version", Integer, nullable=False),
    Column("source", String(63), nullable=False),
    Column("data_set", String(63), nullable=False),
    Column("state", String(16), nullable=False),
    Column("records_read", BigInteger, nullable=False),
    Column("rows_accepted", BigInteger, nullable=False),
    Column("rows_quarantined", BigInteger, nullable=False),
    Column("data_set_version", Integer, nullable=False),
    Column("error", String(1000), nullable=False),
    Column("operation", String(64), nullable=False),
    Column("task", JSON, nullable=False),
    Column("create_time", UtcDateTime, nullable=False),
    Column("end_time", UtcDateTime),
    # Of a rule set; `rule` is empty then.
    Column("rule_set", String(63), nullable=False, server_default=""),
    Column("rule_set_version", Integer, nullable=False, server_default="0"),
    Column("shares", JSON, nullable=False, server_default="{}"),
    Column("origin", String(16), nullable=False, server_default="source"),
    # Of a landed source: where its records land, how many this run landed, and the numbers of those that it read.
    Column("landed_data_set", String(63), nullable=False, server_default=""),
    Column("records_landed", BigInteger, nullable=False, server_default="0"),
    Column("first_landed", BigInteger, nullable=False, server_default="0"),
    Column("last_landed", BigInteger, nullable=False, server_default="0"),
    Column("output_digest", String(71), nullable=False, server_default=""),
    # The same as `data_set` where that is a branch of the rule's.
    Column("branch", String(63), nullable=False, server_default=""),
    Index("extraction_state", "state"),
    Index(
        "extraction_running",
        "tenant",
        "project",
        "rule",
        "rule_set",
        unique=True,
        sqlite_where=_RUNNING,
        postgresql_where=_RUNNING,
    ),
)
_APART = ("tenant", "project", "task", "state", "shares", "origin")
_FIELDS = [c.name for c in _extraction.columns if c.name not in _APART]
_SHARES, _MEMBERS = TypeAdapter(Shares), TypeAdapter(tuple[Member, ...])
_REPLAY = TypeAdapter(Replay | None)
Pin = Callable[[Connection, str], tuple[Extraction, Task]]
# Asked every other second: made once.
_UNFINISHED = select(_extraction).where(_extraction.c.state == State.RUNNING)


class ExtractionStore:
    """The tables of extractions."""

    def __init__(
        self, db: Database, tell: Callable[[Scope, Extraction], Event], respond: Callable[[Extraction], Message]
    ) -> None:
        """`tell` makes the event of an end, `respond` what its operation ends with."""
        self._db, self._tell, self._respond = db, tell, respond
        self.recall = db.recall
        # What goes with the end of a run that succeeded, in its transaction.
        self.on_success: list[Callable[[Connection, Scope, Extraction], None]] = []

    async def begin(
        self, scope: Scope, rule: str, pin: Pin, once: Once | None, budget: CpuBudget = DEFAULT_BUDGET
    ) -> tuple[Extraction, Operation]:
        """Keeps a run and its operation; `pin` makes the run for an operation's id.

        Raises in_progress, invalid_value.
        """
        return await self._begin(scope, ("RunExtraction", f"rules/{rule}"), pin, once, budget)

    async def begin_set(
        self, scope: Scope, rule_set: str, pin: Pin, once: Once | None, budget: CpuBudget = DEFAULT_BUDGET
    ) -> tuple[Extraction, Operation]:
        """The same for a rule set."""
        return await self._begin(scope, ("RunRuleSet", f"rule-sets/{rule_set}"), pin, once, budget)

    async def _begin(
        self, scope: Scope, what: tuple[str, str], pin: Pin, once: Once | None, budget: CpuBudget
    ) -> tuple[Extraction, Operation]:
        def work(connection: Connection) -> tuple[Extraction, Operation]:
            operation = schema.operations.create(connection, scope, f"aimass.v1.Extractions/{what[0]}", what[1])
            made, task = pin(connection, operation.operation)
            one = (_extraction.c.rule == made.rule) & (_extraction.c.rule_set == made.rule_set)
            running = within(_extraction, scope) & one & (_extraction.c.state == State.RUNNING)
            if other := connection.execute(select(_extraction.c.extraction).where(running)).scalar():
                name = made.read_by.name
                raise Failure(Code.IN_PROGRESS, f"the extraction {other} of {name} is running", retry_after=1)
            metering.begin(connection, scope, operation.operation, "extraction", budget)
            pinned = {
                "source": to_json(task.definition),
                "compiled": compiled_to_json(task.compiled),
                "members": _MEMBERS.dump_python(task.members, mode="json"),
                "match": task.match.value,
                "landed": task.landed,
                "replay": _REPLAY.dump_python(task.replay, mode="json"),
            }
            connection.execute(insert(_extraction).values(**scope._asdict(), **_values(made), task=pinned))
            return made, operation

        return await self._db.run(work, once)

    def ran(self, connection: Connection, scope: Scope, rule: str) -> bool:
        """Whether a rule is extracted by itself now, or has been, in the caller's transaction."""
        here = within(cursors.cursor, scope) & (cursors.cursor.c.rule == rule)
        runs = within(_extraction, scope) & (_extraction.c.rule == rule) & (_extraction.c.state == State.RUNNING)
        asked = (select(cursors.cursor.c.rule).where(here), select(_extraction.c.rule).where(runs))
        return any(connection.execute(query.limit(1)).first() for query in asked)

    def read_from(self, connection: Connection, scope: Scope, source: str) -> bool:
        """Whether a source is extracted now, or has been, in the caller's transaction."""
        states = _extraction.c.state.in_([State.RUNNING, State.SUCCEEDED])
        here = within(_extraction, scope) & (_extraction.c.source == source) & states
        return connection.execute(select(_extraction.c.extraction).where(here).limit(1)).first() is not None

    def check_replaced(self, connection: Connection, scope: Scope, rule: str, data_set: str) -> None:
        """Raises failed_precondition when anything but runs of a rule from the warehouse has written a data set."""
        runs = within(_extraction, scope) & (_extraction.c.data_set == data_set)
        own = (_extraction.c.rule == rule) & (_extraction.c.origin == Origin.WAREHOUSE)
        query = select(_extraction.c.extraction).where(runs & own).limit(1)
        if connection.execute(query).first() is None:
            raise FailedPrecondition(f"the data set {data_set} is there, and no run of {rule} has written it")

    async def get(self, scope: Scope, name: str) -> Extraction:
        """Raises not_found."""
        return _read(await self._row(scope, name))

    async def task(self, scope: Scope, name: str) -> Task:
        """What a run does. Raises not_found."""
        pinned = (await self._row(scope, name)).task
        members, match = _MEMBERS.validate_python(pinned.get("members", ())), Match(pinned.get("match", Match.FIRST))
        source, compiled = source_from_json(pinned["source"]), compiled_from_json(pinned["compiled"])
        landed, replay = pinned.get("landed", False), _REPLAY.validate_python(pinned.get("replay"))
        return Task(source, compiled, members, match, landed, replay)

    async def _row(self, scope: Scope, name: str) -> Row[Any]:
        here = _here(scope, name)
        row = await self._db.read(lambda connection: connection.execute(select(_extraction).where(here)).first())
        if row is None:
            raise NotFound(f"there is no extraction {name}")
        return row

    async def list(
        self, scope: Scope, rule: str, page_size: int, page_token: str, rule_set: str = ""
    ) -> Page[Extraction]:
        """Newest first, of all rules and rule sets or of one."""
        query = select(_extraction).where(within(_extraction, scope))
        if rule:
            query = query.where(_extraction.c.rule == rule)
        if rule_set:
            query = query.where(_extraction.c.rule_set == rule_set)
        return await listed(self._db, query, _extraction.c.extraction, _read, page_size, page_token, newest_first=True)

    async def unfinished(self) -> Sequence[tuple[Scope, Extraction]]:
        """The runs of all tenants that have not ended."""
        rows = await self._db.read(lambda connection: connection.execute(_UNFINISHED).all())
        return [(Scope(row.tenant, row.project), _read(row)) for row in rows]

    async def cursor(
        self, scope: Scope, rule: str, place: str, rule_set: str = "", branch: str = ""
    ) -> dict[str, Any] | None:
        """Where the last run of a rule ended, on a branch of its data set if one is said, or of a rule set; None for
        the first, and when the source was another place then."""
        found = await self._db.read(lambda connection: cursors.found(connection, scope, rule, rule_set, branch, place))
        return found[0] if found else None

    async def moved(
        self, scope: Scope, rule: str, place: str, rule_set: str = ""
    ) -> tuple[dict[str, Any], datetime] | None:
        """The same, and when that run ended."""
        return await self._db.read(lambda connection: cursors.found(connection, scope, rule, rule_set, "", place))

    async def began(self, scope: Scope, rule: str, place: str) -> dict[str, Any] | None:
        """Where the last run of a rule began that read something; None for the start of its source."""
        return await self._db.read(lambda connection: cursors.began(connection, scope, rule, place))

    def branched(self, connection: Connection, scope: Scope, data_set: str, branch: str) -> None:
        """On a branch that is made, rules go on where they would have on its data set."""
        # A rule that was only tried may have got its cursor by a merge. Those of other data sets do no harm.
        of_rules = within(_extraction, scope) & (_extraction.c.rule != "")
        wrote = of_rules & ((_extraction.c.data_set == data_set) | (_extraction.c.branch != ""))
        rules = connection.execute(select(_extraction.c.rule).where(wrote).distinct()).scalars()
        cursors.branched(connection, scope, branch, list(rules))

    def merged(self, connection: Connection, scope: Scope, data_set: str, branch: str) -> None:
        """Rules that were run on a branch go on behind what they read for it. Raises in_progress while one runs."""
        rules = cursors.moved(connection, scope, branch)
        runs = within(_extraction, scope) & _extraction.c.rule.in_(rules) & (_extraction.c.state == State.RUNNING)
        if row := connection.execute(select(_extraction).where(runs).limit(1)).first():
            text = f"the extraction {row.extraction} of {row.rule}, whose rows are to be merged, is running"
            raise Failure(Code.IN_PROGRESS, text, retry_after=1)
        cursors.bring(connection, scope, branch)
        self.branched(connection, scope, data_set, branch)

    async def end(self, scope: Scope, after: Extraction, failure: Failure | None) -> None:
        """Ends a run that failed or was cancelled; its cursor stays where it was. One that has ended stays as it is."""

        def work(connection: Connection) -> None:
            if self._runs(connection, scope, after):
                self._end(connection, scope, after, failure)

        await self._db.run(work)

    async def succeed_without_news(
        self, scope: Scope, after: Extraction, place: str, cursor: dict[str, Any], message: str
    ) -> None:
        """Ends a run that found nothing new."""
        await self._db.run(lambda connection: self.succeed(connection, scope, after, place, cursor, message))

    def succeed(
        self, connection: Connection, scope: Scope, after: Extraction, place: str, cursor: dict[str, Any], message: str
    ) -> None:
        """Ends a run, and stores where the next one begins, unless there is no place, in the caller's transaction.

        Raises cancelled when the run has ended in the meantime.
        """
        self.check_running(connection, scope, after)
        if place:
            cursors.store(connection, scope, after, place, cursor)
        schema.operations.set(connection, scope, after.operation, stage="done", message=message[:1000])
        self._end(connection, scope, after, None)

    def check_running(self, connection: Connection, scope: Scope, run: Extraction) -> None:
        """Raises cancelled when a run has ended, fence_stale when another process does it."""
        if not self._runs(connection, scope, run):
            raise Failure(Code.CANCELLED, f"the extraction {run.extraction} has ended")

    @staticmethod
    def _runs(connection: Connection, scope: Scope, after: Extraction) -> bool:
        """Whether it has not ended. Raises fence_stale when another process does it by now."""
        schema.tenure.check(connection, after.operation)
        query = select(_extraction.c.state).where(_here(scope, after.extraction))
        return bool(connection.execute(query).scalar() == State.RUNNING)

    def _end(self, connection: Connection, scope: Scope, after: Extraction, failure: Failure | None) -> None:
        connection.execute(update(_extraction).where(_here(scope, after.extraction)).values(**_values(after)))
        schema.outbox.add(connection, [self._tell(scope, after)])
        # What is read again says nothing of what the source does now, and what is tried is read again.
        news = after.state is State.SUCCEEDED and after.origin is Origin.SOURCE and not after.branch
        for follow in self.on_success if news else ():
            follow(connection, scope, after)
        done = self._respond(after) if after.state is State.SUCCEEDED else None
        cancelled = after.state is State.CANCELLED
        schema.operations.end(connection, scope, after.operation, done, failure, cancelled)


def _here(scope: Scope, name: str) -> Any:
    return within(_extraction, scope) & (_extraction.c.extraction == name)


def _values(extraction: Extraction) -> dict[str, Any]:
    shares = _SHARES.dump_python(extraction.shares, mode="json")
    return {name: getattr(extraction, name) for name in _FIELDS} | {
        "state": extraction.state.value,
        "shares": shares,
        "origin": extraction.origin.value,
    }


def _read(row: Row[Any]) -> Extraction:
    shares = _SHARES.validate_python(row.shares)
    apart: dict[str, Any] = {"state": State(row.state), "shares": shares, "origin": Origin(row.origin)}
    return Extraction(**{name: getattr(row, name) for name in _FIELDS}, **apart)
