"""All keys of the installation in memory: a request asks no database, and keys work on while it is away."""

import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from services.gateway.access.caller import Guest
from services.gateway.access.domain import ApiKey, Signing, Tenant, digest, prefix_of
from services.gateway.access.origin import Origin
from services.gateway.roles.book import Rolebook
from services.gateway.roles.domain import Grant, in_project, roles_in, within_objects, within_projects
from services.kit.auth import Principal, Scope
from services.kit.errors import Code, Failure, Unauthenticated
from services.kit.fields import NAME

_PROJECTS = 64  # principals that are kept for one key
_NOBODY = bytes(32)
_NOWHERE = Origin()


@dataclass(slots=True)
class Held:
    """A key, what it must hash to, and the principals it spoke for."""

    key: ApiKey
    digest: bytes
    # What it may, by itself and by its roles.
    grants: tuple[Grant, ...]
    principals: dict[str, Principal] = field(default_factory=dict)
    # The change of the ring that it came with.
    turn: int = 0


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NONE = Held(ApiKey("", "", "", (), EPOCH), _NOBODY, ())
_NO_TENANT = Tenant("", "", EPOCH, delete_time=EPOCH)  # in the place of tenants that there are not
# In the place of keys that are none, where signatures are checked.
STRANGER = Held(ApiKey("", "", "", (), EPOCH, signing=Signing(False)), b"", ())


class Elsewhere(Unauthenticated):
    """A key that may not be used from this origin; answered like a wrong key. `reason` is for the log only."""

    def __init__(self, reason: str) -> None:
        super().__init__("the key is not valid")
        self.reason = reason


class Keyring:
    """Keys by prefix, and tenants by name."""

    def __init__(self, pepper: bytes, now: Callable[[], datetime], book: Rolebook | None = None) -> None:
        self._pepper, self._now, self._book = pepper, now, book or Rolebook()
        self._held: dict[str, Held] = {}
        self._tenants: dict[str, Tenant] = {}
        # How many changes it has seen, and how often permissions were settled anew.
        self.turn = self.settled = 0
        self.newest = EPOCH  # the time that the newest tenant was made at

    def replace(self, tenants: Iterable[Tenant], keys: Iterable[tuple[ApiKey, bytes]], turn: int | None = None) -> None:
        """Holds these from now on, and nothing else; what was read before a change does not undo it.

        `turn` is the ring's before they were read: a key that came since is kept although it is not among them.
        """
        since = self.turn if turn is None else turn
        new = {prefix: held for prefix, held in self._held.items() if held.turn > since}
        self._held = new | {key.api_key: self._newer(key, kept) for key, kept in keys}
        for tenant in tenants:
            self.tenant(tenant)
        self.settle()

    def _newer(self, key: ApiKey, kept: bytes) -> Held:
        known = self._held.get(key.api_key)
        return known if known and known.key.generation >= key.generation else Held(key, kept, self._grants(key))

    def _grants(self, key: ApiKey) -> tuple[Grant, ...]:
        own = (Grant(key.permissions),) if key.permissions else ()
        found = (*own, *self._book.grants(key.tenant, f"key:{key.api_key}", key.roles))
        return within_objects(found, key.objects)

    def settle(self, tenant: str = "") -> None:
        """Looks anew what the keys of a tenant may, or all keys; one that may something else is another key by that."""
        self.settled += 1
        for prefix, held in list(self._held.items()):
            if tenant in ("", held.key.tenant) and (grants := self._grants(held.key)) != held.grants:
                self._held[prefix] = Held(replace(held.key), held.digest, grants, turn=held.turn)

    def put(self, key: ApiKey, kept: bytes | None = None) -> None:
        """Adds a key, or changes one; without a digest the one that is held stays."""
        known = self._held.get(key.api_key)
        self.turn += 1
        if known and key.generation >= known.key.generation:
            self._held[key.api_key] = Held(key, kept or known.digest, self._grants(key), turn=self.turn)
        elif known is None and kept:
            self._held[key.api_key] = Held(key, kept, self._grants(key), turn=self.turn)

    def tenant(self, tenant: Tenant) -> None:
        """Knows a tenant as it is from now on."""
        known = self._tenants.get(tenant.tenant)
        if known is None or tenant.generation >= known.generation:
            self._tenants[tenant.tenant] = tenant
            self.newest = max(self.newest, tenant.create_time)

    def names(self) -> frozenset[str]:
        """Of all tenants."""
        return frozenset(self._tenants)

    @property
    def tenants(self) -> int:
        """How many tenants it knows."""
        return len(self._tenants)

    def knows_tenant(self, name: str, generation: int) -> bool:
        """Whether it knows a tenant as it is since a generation, or as it became later."""
        known = self._tenants.get(name)
        return known is not None and known.generation >= generation

    def knows_key(self, prefix: str, generation: int) -> bool:
        """Whether it knows a key as it is since a generation, or as it became later."""
        held = self._held.get(prefix)
        return held is not None and held.key.generation >= generation

    def has_tenant(self, tenant: str) -> bool:
        """Whether there is such a tenant that is not deleted."""
        return not self._tenants.get(tenant, _NO_TENANT).delete_time

    def has(self, prefix: str) -> bool:
        return prefix in self._held

    def key(self, principal: str) -> ApiKey | None:
        """The key of a principal `key:<prefix>`."""
        held = self._held.get(principal.removeprefix("key:"))
        return held.key if held else None

    def grants(self, principal: str) -> tuple[Grant, ...]:
        """The grants of a principal `key:<prefix>`, in all projects."""
        held = self._held.get(principal.removeprefix("key:"))
        return within_projects(held.grants, held.key.projects) if held else ()

    def given(
        self, tenant: str, principal: str, roles: Sequence[str] = (), groups: Sequence[str] = ()
    ) -> tuple[Grant, ...]:
        """The grants of a principal of a tenant: a key's own, others' by the roles and groups that are named."""
        held = self._held.get(principal.removeprefix("key:"))
        if principal.startswith("key:"):
            return self.grants(principal) if held and held.key.tenant == tenant else ()
        return tuple(dict.fromkeys(self._book.grants(tenant, principal, roles, groups)))

    def would(self, key: ApiKey) -> tuple[Grant, ...]:
        """The grants that a key would have, in all projects."""
        return within_projects(self._grants(key), key.projects)

    def lasting(self, principal: Principal) -> ApiKey | None:
        """The key of an identified principal, if only a change of the key can take that back.

        None for a principal without a key, or one that was identified by a replaced secret.
        """
        held = self._held.get(principal.id.removeprefix("key:"))
        return held.key if held and held.principals.get(principal.scope.project) is principal else None

    def holds(self, key: ApiKey) -> bool:
        """Whether a key that was identified has not changed since, nor what it may, and works."""
        held = self._held.get(key.api_key)
        return held is not None and held.key is key and self._works(key)

    def _works(self, key: ApiKey) -> bool:
        if key.expire_time is None and key.revoke_time is None:  # most have no end, and asking for the time costs
            return self.has_tenant(key.tenant)
        return key.works(self._now()) and self.has_tenant(key.tenant)

    def identify(self, secret: str, project: str, origin: Origin = _NOWHERE) -> tuple[ApiKey, Principal]:
        """The key of a secret. Raises unauthenticated, with one text and after the same work for every reason.

        Raises forbidden or invalid_name for a project that the key is not for or that is no name.
        """
        held = self._held.get(prefix_of(secret), _NONE)
        given = digest(self._pepper, secret)
        present = hmac.compare_digest(given, held.digest)
        former = not present and self._former(held, given)
        if not (present or former) or held is _NONE or not self._works(held.key):
            raise Unauthenticated("the key is not valid")
        if former:
            self._here(held.key, origin)
            return held.key, self._principal(held, project)
        return held.key, self.speaker(held, project, origin)

    def certified(self, prefix: str, project: str, origin: Origin) -> tuple[ApiKey, Principal]:
        """The key that is named, if a certificate of its is shown. Raises unauthenticated, forbidden, invalid_name."""
        held = self._held.get(prefix)
        if held is None or not held.key.certificates or not self._works(held.key):
            raise Elsewhere("it names no key that is for certificates")
        return held.key, self.speaker(held, project, origin)

    def _former(self, held: Held, given: bytes) -> bool:
        """Whether this is the secret that a key had before, while it still works; the same work if there was none."""
        before = held.key.replaced
        same = hmac.compare_digest(given, before.digest if before else _NOBODY)
        return same and before is not None and self._now() < before.until

    def signer(self, prefix: str) -> tuple[Held, bool]:
        """The key that a signed request names, and whether it is one to sign with, and works.

        An unknown name gives a stranger's key, so that what is done next takes the same time.
        """
        held = self._held.get(prefix, STRANGER)
        works, signs = self._works(held.key), held.key.signing is not None
        return held, works & signs

    def speaker(self, held: Held, project: str, origin: Origin = _NOWHERE) -> Principal:
        """The principal of a key that is used from an origin. Raises unauthenticated, forbidden, invalid_name."""
        if held.key.addresses or held.key.certificates:
            self._here(held.key, origin)
        if (known := held.principals.get(project)) is None:
            if len(held.principals) >= _PROJECTS:
                held.principals.clear()
            known = held.principals[project] = self._principal(held, project)
        return known

    def guest(self, tenant: str, names: Sequence[str], roles: Sequence[str], project: str) -> Guest:
        """A caller with roles and bindings of a tenant and no key, in a project. Raises invalid_name."""
        _check(project)
        grants = tuple(dict.fromkeys(self._book.grants(tenant, names[0], roles, names[1:])))
        permissions, held = in_project(grants, project), roles_in(grants, project)
        return Guest(Scope(tenant, project), names[0], permissions, held, tuple(names[1:]), grants)

    def _here(self, key: ApiKey, origin: Origin) -> None:
        if not key.usable_from(origin.address):
            raise Elsewhere(f"{key.api_key} is not for {origin.address or 'an address that is not known'}")
        if key.certificates and not origin.proves(key.certificates, self._now()):
            raise Elsewhere(f"{key.api_key} needs one of its certificates")

    def _principal(self, held: Held, project: str) -> Principal:
        key = held.key
        _check(project)
        if key.projects and project not in key.projects:
            raise Failure(Code.FORBIDDEN, f"the key is not for project {project}")
        permissions, roles = in_project(held.grants, project), roles_in(held.grants, project)
        return Principal(Scope(key.tenant, project), f"key:{key.api_key}", permissions, roles)


def _check(project: str) -> None:
    if not NAME.match(project):
        raise Failure(Code.INVALID_NAME, "X-Project must be a name: [a-z][a-z0-9_-]{0,62}")
