"""Callers with tokens of issuers: a token is verified once, and its roles are looked up for each request."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.gateway.access.keyring import Keyring
from services.gateway.issuers import tokens
from services.gateway.issuers.distrust import TokenRefused, UnknownKey
from services.gateway.issuers.keyset import KeySet
from services.gateway.issuers.table import Issuer, IssuerTable
from services.gateway.issuers.tokens import Claims
from services.kit.auth import Principal
from services.kit.egress import Egress
from services.kit.errors import Unavailable

_LOOK = 0.5  # seconds between two looks at the file and at what is due
_MOST = 10_000  # tokens that are remembered
_PROJECTS = 64  # principals that are kept for one token


@dataclass(slots=True)
class _Known:
    """A token that was verified, and the principals it spoke for since roles last changed."""

    claims: Claims
    settled: int = -1
    principals: dict[str, Principal] = field(default_factory=dict)


class Bearers:
    """Identifies callers by their tokens."""

    def __init__(
        self, table: IssuerTable, egress: Egress, keyring: Callable[[], Keyring], now: Callable[[], float]
    ) -> None:
        """`now` gives Unix seconds; roles and tenants are those of the keyring."""
        self._table, self._egress, self._keyring, self._now = table, egress, keyring, now
        self._sets: dict[str, KeySet] = {}
        # By digest: the tokens themselves are kept nowhere.
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._arrange()

    def identify(self, token: str, project: str) -> Principal:
        """The principal of a token in a project. Raises TokenRefused; invalid_name for a project that is no name."""
        digest, now = hashlib.sha256(token.encode()).digest(), self._now()
        known = self._known.get(digest)
        if known is None:
            known = _Known(tokens.read(token, self._table.issuers, self._keys, now))
            self._known[digest] = known
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
        elif known.claims.ends <= now:
            del self._known[digest]
            raise TokenRefused("it has expired")
        return self._speaker(known, project)

    def _speaker(self, known: _Known, project: str) -> Principal:
        ring, claims = self._keyring(), known.claims
        if not ring.has_tenant(claims.tenant):
            raise TokenRefused("its tenant is deleted")
        if known.settled != ring.settled or len(known.principals) >= _PROJECTS:
            known.principals.clear()
            known.settled = ring.settled
        if (principal := known.principals.get(project)) is None:
            names = (claims.principal, *claims.groups)
            principal = ring.guest(claims.tenant, names, claims.roles, project)
            known.principals[project] = principal
        return principal

    def knows(self, tenant: str, principal: str) -> bool:
        """Whether a principal is a user or a group of an issuer of a tenant, as far as can be known from here."""
        kind, name, who = (*principal.split(":", 2), "", "")[:3]
        written = tokens.SUBJECT.match(who) if kind == "user" else kind == "group" and tokens.named(who)
        issuer = self._table.issuers.get(name) if written else None
        return issuer is not None and issuer.tenant == tenant

    @property
    def issuers(self) -> Mapping[str, Issuer]:
        """Those whose tokens are taken, by name."""
        return self._table.issuers

    async def learn(self, failure: UnknownKey) -> None:
        """Asks an issuer for the key that a token names. Raises unavailable while nothing is known of the issuer."""
        if keys := self._sets.get(failure.issuer):
            await keys.ask()
            if not keys.keys:
                raise Unavailable("the issuer of the token cannot be reached", retry_after=5.0)

    async def follow(self) -> None:
        """Follows the file and the issuers, for ever."""
        while True:
            if self._table.look():
                self._arrange()
            for keys in self._sets.values():
                keys.renew()
            await asyncio.sleep(_LOOK)

    async def close(self) -> None:
        """Stops the looks at issuers."""
        await asyncio.gather(*(keys.close() for keys in self._sets.values()))
        await self._egress.close()

    def _keys(self, name: str) -> Mapping[str, Any]:
        return self._sets[name].keys

    def _arrange(self) -> None:
        """The issuers are others from now on: what was verified is checked again."""
        for name, issuer in self._table.issuers.items():
            known = self._sets.get(name)
            if known is None or not known.serves(issuer):
                if known:
                    known.stop()
                self._sets[name] = KeySet(name, issuer, self._egress, self._known.clear)
        for name in self._sets.keys() - self._table.issuers.keys():
            self._sets.pop(name).stop()
        self._known.clear()
