"""Tenants and API keys, and what a key may do."""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from services.gateway.access import networks
from services.gateway.roles.domain import Grant, Role, lacking
from services.kit.errors import Code, Failure, Violation, invalid

DEFAULT, SYSTEM = "default", "system"
ALL = "*"
_SECRET = re.compile(r"aim_([a-z0-9]{8})_[A-Za-z0-9_-]{43}\Z")
_PATTERN = re.compile(r"(\*|[a-z][a-z_]*\.(\*|[a-z][a-z_]*))\Z")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")
_MODEL = re.compile(r"([a-z][a-z0-9_-]{0,62}|[a-z][a-z0-9_-]{0,61}\*)\Z")
_CERTIFICATE = re.compile(r"(uri:[!-~]{1,500}|dns:[a-z0-9_.-]{1,253}|email:[!-~]{1,254}|sha256:[0-9a-f]{64})\Z")
_FASTEST = 1_000_000.0


@dataclass(frozen=True)
class Tenant:
    """A tenant. The generation grows with each change."""

    tenant: str
    display_name: str
    create_time: datetime
    generation: int = 1
    delete_time: datetime | None = None
    # When its encryption keys were destroyed.
    shred_time: datetime | None = None


@dataclass(frozen=True)
class RateLimit:
    """Tokens a second, and how many the bucket holds."""

    rate: float
    burst: float


@dataclass(frozen=True)
class Signing:
    """How requests of a key are signed: by Ed25519 if it has a public key (32 bytes), else by HMAC with a secret."""

    required: bool
    public_key: bytes = b""
    # The secret as the vault keeps it.
    sealed: bytes = field(default=b"", repr=False)

    @property
    def algorithm(self) -> str:
        """As RFC 9421 calls it."""
        return "ed25519" if self.public_key else "hmac-sha256"


@dataclass(frozen=True)
class Replaced:
    """The previous secret of a key: its digest, and until when it works."""

    digest: bytes = field(repr=False)
    until: datetime


@dataclass(frozen=True)
class ApiKey:
    """A key without its secret. No projects: all of the tenant; no rate limit: the installation's default.

    No addresses: from everywhere; no models: all objects.
    """

    api_key: str
    tenant: str
    display_name: str
    permissions: tuple[str, ...]
    create_time: datetime
    projects: tuple[str, ...] = ()
    rate_limit: RateLimit | None = None
    expire_time: datetime | None = None
    revoke_time: datetime | None = None
    generation: int = 1
    signing: Signing | None = None
    roles: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    replaced: Replaced | None = None
    rotate_time: datetime | None = None
    # Subjects of client certificates, of which the connection must have one.
    certificates: tuple[str, ...] = ()

    @property
    def objects(self) -> tuple[str, ...]:
        """The objects that it is for; empty: all."""
        return tuple(f"models/{model}" for model in self.models)

    @property
    def administers(self) -> bool:
        """It may make tenants, and keys for them; never a key for some projects or models only."""
        bounded = self.projects or self.models
        return self.tenant in (DEFAULT, SYSTEM) and ALL in self.permissions and not bounded

    def works(self, now: datetime) -> bool:
        """It is neither revoked nor expired."""
        return self.revoke_time is None and (self.expire_time is None or now < self.expire_time)

    def usable_from(self, address: str) -> bool:
        """Whether the key may be used from an address."""
        return not self.addresses or networks.inside(self.addresses, address)


class NewKey(NamedTuple):
    """A key that was just made, with the secrets that are shown to its maker."""

    key: ApiKey
    secret: str
    signing_secret: str = ""


@dataclass(frozen=True)
class KeyRequest:
    """The wanted properties of a new key; empty ones are taken from the maker's key."""

    display_name: str
    tenant: str = ""
    projects: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    rate_limit: RateLimit | None = None
    expire_time: datetime | None = None
    signing: Signing | None = None
    roles: tuple[str, ...] = ()
    # It starts with nothing.
    bindings_only: bool = False
    addresses: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()

    @property
    def says(self) -> bool:
        """Whether it says what the key may do."""
        return bool(self.permissions or self.roles or self.bindings_only)


def prefix_of(secret: str) -> str:
    """The 8 characters that name a key; empty for what is not a key."""
    found = _SECRET.match(secret)
    return found.group(1) if found else ""


def sealed_for(prefix: str) -> str:
    """The context in which a key's signing secret is sealed: it opens for this key only."""
    return f"signing/{prefix}"


def digest(pepper: bytes, secret: str) -> bytes:
    """The stored digest of a secret: HMAC-SHA-256 with the pepper of the installation, 32 bytes."""
    # Not hmac.digest: that lets other threads run in between, and each request would queue for its turn again.
    return hmac.new(pepper, secret.encode(), hashlib.sha256).digest()


def grant(
    maker: ApiKey,
    wanted: KeyRequest,
    prefix: str,
    now: datetime,
    held: Sequence[Grant] | None = None,
    roles: Sequence[Role] = (),
) -> ApiKey:
    """The key that `maker` may hand out. Raises invalid_value, invalid_name, or forbidden for more than it has.

    `held` is what the maker has; None: the permissions of its key only. `roles` are those that are wanted.
    """
    check(wanted, now)
    tenant = wanted.tenant or maker.tenant
    projects = wanted.projects or (maker.projects if tenant == maker.tenant else ())
    if maker.projects and (foreign := sorted(set(projects) - set(maker.projects))):
        raise Failure(Code.FORBIDDEN, f"the caller's key is not for project {foreign[0]}")
    permissions, names = wanted.permissions, wanted.roles
    if not wanted.says:
        permissions, names = maker.permissions, maker.roles if tenant == maker.tenant else ()
    limit, ends = wanted.rate_limit or maker.rate_limit, wanted.expire_time or maker.expire_time
    made = ApiKey(prefix, tenant, wanted.display_name, permissions, now, projects, limit, ends, signing=wanted.signing)
    made = replace(
        made, roles=names, addresses=wanted.addresses or maker.addresses, models=wanted.models or maker.models
    )
    made = replace(made, certificates=wanted.certificates or maker.certificates)
    has = (Grant(maker.permissions),) if held is None else held
    parts = (permissions, *(role.permissions for role in roles))
    within_reach(maker, has, made, [Grant(part, projects, made.objects) for part in parts])
    return made


def within_reach(maker: ApiKey, has: Sequence[Grant], key: ApiKey, grants: Sequence[Grant]) -> None:
    """Raises forbidden for a key that gives more than its maker has; `grants` are what it may."""
    for part in grants:
        if lacks := lacking(has, part):
            raise Failure(Code.FORBIDDEN, f"the caller's key lacks {lacks} and cannot hand it out")
    if maker.expire_time and (key.expire_time is None or key.expire_time > maker.expire_time):
        raise Failure(Code.FORBIDDEN, "a key cannot outlive the key that makes it")
    limit, own = key.rate_limit, maker.rate_limit
    if own and (limit is None or limit.rate > own.rate or limit.burst > own.burst):
        raise Failure(Code.FORBIDDEN, "a key cannot be faster than the key that makes it")
    outside = networks.within(key.addresses or networks.ALL, maker.addresses) if maker.addresses else ""
    if outside:
        raise Failure(Code.FORBIDDEN, f"the caller's key may not be used from {outside}")
    if maker.certificates and not 0 < len(key.certificates) == len(set(key.certificates) & set(maker.certificates)):
        raise Failure(Code.FORBIDDEN, "the caller's key is for its certificates, and so are those that it makes")


def _check_places(wanted: KeyRequest) -> None:
    for index, address in enumerate(wanted.addresses):
        try:
            networks.check(address)
        except ValueError:
            raise invalid(f"/addresses/{index}", "must be an address, or a network as 10.0.0.0/8") from None
    for index, model in enumerate(wanted.models):
        if not _MODEL.match(model):
            raise invalid(f"/models/{index}", "must be a model, or the beginning of one and *")
    for index, subject in enumerate(wanted.certificates):
        if not _CERTIFICATE.match(subject):
            rule = "must be uri:..., dns:..., email:... or sha256: and 64 hexadecimal digits"
            raise invalid(f"/certificates/{index}", rule)


def check(wanted: KeyRequest, now: datetime) -> None:
    """Raises invalid_value, invalid_name for what no key can be."""
    if wanted.bindings_only and (wanted.permissions or wanted.roles):
        raise invalid("/bindings_only", "must not be set beside permissions or roles")
    for index, pattern in enumerate(wanted.permissions):
        if not _PATTERN.match(pattern):
            raise invalid(f"/permissions/{index}", "must be *, models.* or models.get")
    for index, project in enumerate(wanted.projects):
        if not _NAME.match(project):
            rule = "must be a name: [a-z][a-z0-9_-]{0,62}"
            raise Failure(Code.INVALID_NAME, f"projects.{index} {rule}", [Violation(f"/projects/{index}", rule)])
    limit = wanted.rate_limit
    if limit and not (0 < limit.rate <= _FASTEST and 1 <= limit.burst <= _FASTEST):
        raise invalid("/rate_limit", "needs a rate above 0 and a burst of at least 1, neither above 1,000,000")
    if wanted.expire_time and wanted.expire_time <= now:
        raise invalid("/expire_time", "must be in the future")
    _check_places(wanted)
    if wanted.signing and len(wanted.signing.public_key) not in (0, 32):
        raise invalid("/signing/public_key", "must be the 32 bytes of an Ed25519 public key")


def last_administrator(keys: Sequence[ApiKey], revoked: str, now: datetime) -> bool:
    """True if no key that administers would work after one is revoked."""
    working = [key for key in keys if key.administers and key.works(now)]
    return [key.api_key for key in working] == [revoked]
