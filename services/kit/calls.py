"""The table of internal calls: deadline, permitted callers and balancing of each, and the breakers of each service.

The contract says both; AIMASS_CALLS_FILE says otherwise where an installation wants it, and may change while processes
run.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from services.kit import contract
from services.kit.auth import Principal, caller_of
from services.kit.balancing import Way
from services.kit.contract import ANY, Method
from services.kit.errors import Forbidden
from services.kit.outliers import EjectionRules
from services.kit.tally import CheckRules
from services.kit.toml_table import TomlTable

_LOOK = 0.5  # seconds between two checks of the file
EVERYONE = "*"
# The services that the caller's certificate names; None for calls without TLS or in the same process.
Peer = frozenset[str] | None
Seconds = Annotated[float, Field(gt=0, le=86400)]


class _Entry(BaseModel):
    """The rules of the calls that a pattern matches."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    deadline: Seconds | None = None
    callers: frozenset[str] | None = None


class BreakerRules(BaseModel):
    """When the breaker of an instance opens, and for how long; None: the default. Times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    window: Seconds | None = None
    calls: Annotated[int, Field(ge=1)] | None = None
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    in_a_row: Annotated[int, Field(ge=1)] | None = None
    shortest: Seconds | None = None
    longest: Seconds | None = None


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    calls: dict[str, _Entry] = {}
    breakers: dict[str, BreakerRules] = {}
    # By a service or a pattern of calls.
    balancing: dict[str, Way] = {}
    checks: dict[str, CheckRules] = {}
    ejection: dict[str, EjectionRules] = {}


class CallTable:
    """The rules of calls, by the most specific pattern: `aimass.v1.Models/GetModel`, `aimass.v1.Models/*`, `*`."""

    def __init__(self, file: Path | None = None) -> None:
        """Without a file the rules are those of the contract. Raises ConfigError for an invalid file."""
        self._table = TomlTable("the calls file", "AIMASS_CALLS_FILE", file, _Table, _wrong) if file else None
        self._content = self._table.content if self._table else _Table.model_construct()
        self._known: dict[str, tuple[float, frozenset[str] | None]] = {}

    def deadline(self, method: Method) -> float:
        """Seconds that a call may take."""
        return self._find(method)[0]

    def admit(self, method: Method, principal: Principal, peer: Peer) -> None:
        """Raises forbidden for a caller that may not call the method, or whose token does not fit its certificate."""
        if not principal.id.startswith(("service:", "key:", "user:")):
            raise Forbidden("the token must be for a service, a key or a user")
        caller = caller_of(principal)
        if peer is not None and caller not in peer:
            raise Forbidden(f"the certificate is not that of {caller}")
        callers = self._find(method)[1]
        if callers is not None and caller not in callers:
            raise Forbidden(f"{caller} may not call {method.path[1:]}")

    def breaker(self, service: str) -> Mapping[str, Any]:
        """The breaker rules of a service that are set, by name."""
        rules = self._content.breakers.get(service) or self._content.breakers.get(EVERYONE) or BreakerRules()
        return rules.model_dump(exclude_none=True)

    def balancing(self, service: str, path: str) -> tuple[str, Way]:
        """The entry for the balancing of a call, and its way. Methods of one entry share a round robin."""
        balancing = self._content.balancing
        for entry in (path[1:], f"{path[1:].partition('/')[0]}/*", service, EVERYONE):
            if entry in balancing:
                return entry, balancing[entry]
        return "", Way.POWER_OF_TWO

    def check(self, service: str) -> CheckRules | None:
        """The health checks of a service's instances; None: none."""
        return self._content.checks.get(service) or self._content.checks.get(EVERYONE)

    def ejection(self, service: str) -> EjectionRules:
        """When an instance of a service is ejected."""
        return self._content.ejection.get(service) or self._content.ejection.get(EVERYONE) or EjectionRules()

    async def watch(self, changed: Callable[[], None] = lambda: None) -> None:
        """Reads the file again when it changes. An invalid file is logged and changes nothing."""
        while self._table:
            await asyncio.sleep(_LOOK)
            if self._table.look():
                self._content, self._known = self._table.content, {}
                changed()

    def _find(self, method: Method) -> tuple[float, frozenset[str] | None]:
        if (found := self._known.get(method.path)) is None:
            found = self._known[method.path] = self._work_out(method)
        return found

    def _work_out(self, method: Method) -> tuple[float, frozenset[str] | None]:
        service = method.path[1:].partition("/")[0]
        patterns = (method.path[1:], f"{service}/*", EVERYONE)
        entries = [entry for pattern in patterns if (entry := self._content.calls.get(pattern))]
        deadline = next((entry.deadline for entry in entries if entry.deadline), method.deadline)
        callers = next((entry.callers for entry in entries if entry.callers is not None), None)
        if callers is not None:
            return deadline, None if EVERYONE in callers else callers
        declared = frozenset(method.policy.callers)
        if method.public:
            return deadline, declared | {"gateway"}
        return deadline, declared or None


def _wrong(table: _Table) -> str:
    unknown = sorted(_unknown(table))
    return f"there is no {', '.join(unknown)}" if unknown else ""


def _unknown(table: _Table) -> set[str]:
    """Names of unknown methods and services, such as typing errors."""
    paths = {method.path[1:] for method in contract.all_methods().values()}
    patterns = {EVERYONE, *paths, *(f"{path.partition('/')[0]}/*" for path in paths)}
    services = {method.owner for method in contract.all_methods().values()} - {ANY} | {EVERYONE}
    named = {caller for entry in table.calls.values() for caller in entry.callers or ()}
    named |= table.breakers.keys() | table.checks.keys() | table.ejection.keys()
    return (table.calls.keys() - patterns) | (named - services) | (table.balancing.keys() - patterns - services)


def permit(method: Method, principal: Principal, request: Any) -> None:
    """Raises forbidden without the permission of a method; the failure reveals nothing of the object."""
    permission = method.policy.permission
    if principal.may(permission):
        return
    # The object of the call is worked out only for the few callers with permissions on some objects.
    if request is None or not principal.may(permission, method.thing(request)):
        raise Forbidden(f"{permission} is not permitted")
