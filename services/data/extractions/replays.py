"""Runs that read what landed, again: of which records, and where their rows go."""

from dataclasses import dataclass, replace

from sqlalchemy.engine import Connection

from services.data.datasets.masking import UNMASK
from services.data.datasets.service import DataSets
from services.data.extractions.domain import Extraction, Origin, Replay, Task
from services.data.extractions.store import ExtractionStore
from services.data.reading import select
from services.data.reading.kinds import Compiled, SqlSource
from services.data.reading.landed import data_set_of
from services.data.rules.domain import Rule
from services.data.rules.service import Rules
from services.data.sources.domain import Source
from services.data.sources.service import Sources
from services.data.warehouse.domain import ALL, Position, Wanted, check_wanted
from services.data.warehouse.service import Warehouse
from services.kit.auth import Principal, Scope
from services.kit.errors import FailedPrecondition, Forbidden, InvalidValue, Violation

_NAME, _PREFIX = 63, "replayed_"  # characters of a data set's name


@dataclass(frozen=True)
class Asked:
    """What a caller asks for beside the rule.

    `aside`: the rows go to a data set of their own; `branch`: to this branch of the rule's.
    """

    origin: Origin = Origin.SOURCE
    wanted: Wanted = ALL
    aside: bool = False
    branch: str = ""


def data_set_beside(rule: str) -> str:
    """Where rows go that are made again beside those of a rule. Raises invalid_value for a name without room for it."""
    most = _NAME - len(_PREFIX)
    if len(rule) > most:
        rule_ = f"must have at most {most} characters for a run with aside"
        raise InvalidValue(f"rule {rule_}", [Violation("/rule", rule_)])
    return f"{_PREFIX}{rule}"


def check_asked(asked: Asked) -> None:
    """Raises invalid_value for what only a run from the warehouse has."""
    check_wanted(asked.wanted)
    if asked.aside and asked.branch:
        rule = "must not be given together with aside"
        raise InvalidValue(f"branch {rule}", [Violation("/branch", rule)])
    if asked.origin is Origin.WAREHOUSE:
        return
    for name, said in (("landed", asked.wanted != ALL), ("aside", asked.aside)):
        if said:
            rule = "is for origin WAREHOUSE"
            raise InvalidValue(f"{name} {rule}", [Violation(f"/{name}", rule)])


class Replays:
    """Pins what runs read, in the transaction that begins them."""

    def __init__(
        self, store: ExtractionStore, rules: Rules, sources: Sources, warehouse: Warehouse, data_sets: DataSets
    ) -> None:
        self._store, self._rules, self._sources = store, rules, sources
        self._warehouse, self._data_sets = warehouse, data_sets

    def source(self, connection: Connection, scope: Scope, name: str, asked: Asked) -> Source:
        """The source of a run; what landed of a deleted one can be read. Raises not_found."""
        known = asked.origin is Origin.WAREHOUSE
        return (self._sources.known if known else self._sources.existing)(connection, scope, name)

    async def read_to(self, scope: Scope, source: str) -> Position:
        """How far a landed source was read, and has landed: the same for all its rules."""
        return await self._warehouse.position(scope, source)

    def pinned(
        self, connection: Connection, scope: Scope, source: Source, asked: Asked, made: Extraction, task: Task
    ) -> tuple[Extraction, Task]:
        """A run with what it reads: the landed records that are wanted, or what is new. Raises failed_precondition."""
        made = replace(made, origin=asked.origin, landed_data_set=data_set_of(source.source) if source.landed else "")
        task = replace(task, landed=source.landed)
        if asked.origin is Origin.SOURCE:
            return made, task
        if not source.landed:
            raise FailedPrecondition(f"the records of {source.source} do not land: its field landed is not set")
        found = self._warehouse.wanted(connection, scope, source.source, asked.wanted)
        return made, replace(task, replay=Replay(found.after, found.upto, asked.aside))

    def beside(self, connection: Connection, scope: Scope, rule: Rule) -> str:
        """The data set beside a rule's. Raises invalid_value; failed_precondition if others write it."""
        data_set = data_set_beside(rule.rule)
        self._rules.check_free(connection, scope, data_set)
        if self._data_sets.is_there(connection, scope, data_set):
            self._store.check_replaced(connection, scope, rule.rule, data_set)
        return data_set

    async def check_seen(self, principal: Principal, data_set: str) -> None:
        """Rows of another data set have no masks. Raises forbidden for who does not see all columns of the rule's."""
        if await self._data_sets.hidden_in(principal, (data_set,)):  # also by masks of one that is deleted now
            raise Forbidden(f"columns of {data_set} are masked: {UNMASK} is not permitted")


def check_runs_here(source: Source, compiled: Compiled) -> None:
    """Raises failed_precondition for a rule that needs more of the source than its records, if they land."""
    definition = source.definition
    if source.landed and any(one.documents for one in (compiled, *compiled.branches)):
        raise FailedPrecondition(f"records of {source.source} land, and documents are kept of sources whose do not")
    if not (source.landed and isinstance(definition, SqlSource) and definition.remote):
        return
    if select.plain(compiled.statement, definition, len(compiled.columns)) is None:
        raise FailedPrecondition(select.NOT_PLAIN)
