"""The use cases of repairs."""

from sqlalchemy.engine import Connection

from aimass.v1.operations_pb2 import Operation
from services.data.extractions.domain import Extraction
from services.data.metering.domain import CpuBudget
from services.data.repairs.domain import Health, Policy, Repair
from services.data.repairs.runner import RepairRunner
from services.data.repairs.store import RepairStore
from services.data.rules.service import Rules
from services.kit.auth import Scope
from services.kit.db import Once
from services.kit.pages import Page


class Repairs:
    """The use cases."""

    def __init__(self, store: RepairStore, rules: Rules, runner: RepairRunner) -> None:
        self._store, self._rules, self._runner = store, rules, runner
        self.watch = runner.watch

    def extracted(self, connection: Connection, scope: Scope, run: Extraction) -> None:
        """Takes note of a run of a rule, in the transaction that ends it."""
        if run.rule and run.records_read:
            self._store.seen(connection, scope, run)

    async def health(self, scope: Scope, rule: str) -> Health:
        """Raises not_found."""
        await self._rules.get(scope, rule, 0)
        return await self._store.health(scope, rule)

    async def set_policy(self, scope: Scope, rule: str, policy: Policy) -> Health:
        """Raises not_found."""
        await self._rules.get(scope, rule, 0)
        return await self._store.set_policy(scope, rule, policy)

    async def repair(self, scope: Scope, rule: str, once: Once | None, budget: CpuBudget) -> Operation:
        """Begins to look for a repair of the active version. Raises not_found, in_progress, failed_precondition."""
        await self._store.recall(once)

        def check(connection: Connection) -> int:
            return self._rules.active(connection, scope, rule).version.version

        made, operation = await self._store.begin(scope, rule, check, once, budget)
        self._runner.begin(scope, made)
        return operation

    async def list(self, scope: Scope, rule: str, page_size: int, page_token: str) -> Page[Repair]:
        """Newest first. Raises not_found."""
        await self._rules.get(scope, rule, 0)
        return await self._store.list(scope, rule, page_size, page_token)
