"""Principals, permissions, and the tokens of internal calls.

Every process signs with an Ed25519 key of its own, made at its start; the public half lies in `<home>/keys/<id>.pub`.
A token lives at most 60 s, is for one service, and is verified once.
"""

import asyncio
import contextlib
import os
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from services.kit.errors import Code, Failure

LIFETIME = 60.0  # seconds
_RENEW = 20.0  # a token is used again until this little of it is left
_AHEAD = 5.0  # seconds that the clock of another machine may be before ours
_CACHE = 10_000
_AGAIN = 3600.0  # seconds between two publications of a process's key
_DEAD = 86_400.0  # seconds after which a key that was not published again is that of a process that was killed
K = TypeVar("K")
V = TypeVar("V")
SYSTEM = "system"  # the tenant of the installation itself


class Scope(NamedTuple):
    """What every row, topic key and cache key begins with."""

    tenant: str
    project: str = "default"


@dataclass(frozen=True)
class Principal:
    """Whom a call is made for: `key:<id>`, `user:<issuer>:<subject>` or `service:<name>`, with its permissions."""

    scope: Scope
    id: str
    permissions: tuple[str, ...]
    # The names of its roles and groups, known in the gateway only: no token carries them.
    roles: tuple[str, ...] = field(default=(), compare=False, repr=False)
    groups: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def may(self, permission: str, thing: str = "") -> bool:
        """True if a pattern grants it; the empty permission is granted to everyone.

        `thing` is the object that it is wanted for, as `models/late`; empty: permission on all is needed.
        """
        # Roles have dozens of permissions, each by its name: to look for the name is quick, to read patterns is not.
        return not permission or permission in self.permissions or self.by(permission, thing) is not None

    def by(self, permission: str, thing: str = "") -> str | None:
        """The first pattern that grants a permission; None if none does."""
        return next((pattern for pattern in self.permissions if grants(pattern, permission, thing)), None)


def caller_of(principal: Principal) -> str:
    """The service that must be at the other end: the one that the principal is, or the gateway for all others."""
    kind, _, name = principal.id.partition(":")
    return name if kind == "service" else "gateway"


def grants(pattern: str, permission: str, thing: str = "") -> bool:
    """`*` grants all, `models.*` all verbs of models, `models.get` itself.

    `models.get,models.infer@models/fraud-*,models/late` grants both for such objects, and nothing where none is named.
    """
    if "@" in pattern:
        permissions, _, things = pattern.partition("@")
        here = bool(thing) and any(matches(one, thing) for one in things.split(","))
        return here and any(grants(one, permission) for one in permissions.split(","))
    return pattern in ("*", permission) or (pattern.endswith(".*") and permission.startswith(pattern[:-1]))


def matches(pattern: str, name: str) -> bool:
    """`late` is itself, `fraud-*` all that begin so."""
    return pattern == name or (pattern.endswith("*") and name.startswith(pattern[:-1]))


class Identity:
    """A process's key: signs tokens for calls and verifies those of others."""

    def __init__(self, name: str, folder: Path) -> None:
        """Makes a key and publishes its public half in `folder` as `<name>.pub`."""
        self.name, self._folder = name, folder
        self._key = Ed25519PrivateKey.generate()
        self._public: dict[str, Ed25519PublicKey] = {name: self._key.public_key()}
        self._signed: OrderedDict[tuple[str, Principal], tuple[str, float]] = OrderedDict()
        self._verified: OrderedDict[tuple[str, str], tuple[Principal, float]] = OrderedDict()
        self._publish()

    def _publish(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        pem = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        passing = self._folder / f".{self.name}.{os.getpid()}"
        passing.write_bytes(pem)
        passing.rename(self._folder / f"{self.name}.pub")

    async def keep(self) -> None:
        """Publishes the key again every hour, for ever, and removes those that were not published for a day."""
        while True:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._collect, time.time() - _DEAD)
            await asyncio.sleep(_AGAIN)
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._publish)

    def _collect(self, before: float) -> None:
        for path in self._folder.glob("*.pub"):
            if path.stem != self.name and path.stat().st_mtime < before:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Withdraws the public key; tokens of this process are invalid from now on."""
        (self._folder / f"{self.name}.pub").unlink(missing_ok=True)

    def token(self, audience: str, principal: Principal) -> str:
        """A token for calls of one service on behalf of a principal; the same one while it has enough time left."""
        now = time.time()
        known = self._signed.get((audience, principal))
        if known and known[1] - now > _RENEW:
            return known[0]
        claims = {
            "aud": audience,
            "sub": principal.id,
            "ten": principal.scope.tenant,
            "prj": principal.scope.project,
            "per": list(principal.permissions),
            "iat": int(now),
            "exp": int(now + LIFETIME),
        }
        token = jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": self.name})
        _remember(self._signed, (audience, principal), (token, now + LIFETIME))
        return token

    def verify(self, token: str, audience: str) -> Principal:
        """The principal of a token. Raises token_invalid, with no reason."""
        now = time.time()
        known = self._verified.get((token, audience))
        if known and known[1] > now:
            return known[0]
        try:
            kid = jwt.get_unverified_header(token).get("kid", "")
            claims = jwt.decode(token, self._find(kid), algorithms=["EdDSA"], audience=audience, options=_REQUIRED)
            if claims["exp"] - claims["iat"] > LIFETIME + 1 or claims["iat"] > now + _AHEAD:
                raise ValueError("lives too long, or is not from now")
            scope = Scope(claims["ten"], claims["prj"])
            principal = Principal(scope, claims["sub"], tuple(claims["per"]))
        except (jwt.PyJWTError, KeyError, TypeError, ValueError):
            raise Failure(Code.TOKEN_INVALID, "the token is not valid") from None
        _remember(self._verified, (token, audience), (principal, float(claims["exp"])))
        return principal

    def _find(self, kid: str) -> Ed25519PublicKey:
        if kid not in self._public:
            # The id only looks a key up among the files there are; it is never joined to a path.
            files = {path.stem: path for path in self._folder.glob("*.pub")}
            key = load_pem_public_key(files[kid].read_bytes())
            if not isinstance(key, Ed25519PublicKey):
                raise ValueError("not an Ed25519 key")
            self._public[kid] = key
        return self._public[kid]


_REQUIRED: jwt.types.Options = {"require": ["exp", "iat", "aud", "sub"], "verify_iat": False}  # `iat` is checked here


def _remember(cache: OrderedDict[K, V], key: K, value: V) -> None:
    cache[key] = value
    if len(cache) > _CACHE:
        cache.popitem(last=False)


def service_principal(name: str, scope: Scope, permissions: Iterable[str]) -> Principal:
    """A service that works on its own, for one tenant."""
    return Principal(scope, f"service:{name}", tuple(permissions))
