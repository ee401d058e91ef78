"""The roles that every tenant has, out of the contract: which verbs of which resources each of them has.

Each has the permissions of the one before. A verb that is not here belongs to `admin` only, such as `unmask`, and so do
all permissions that manage access.
"""

from collections.abc import Mapping
from functools import cache

from services.gateway.roles.domain import ALL, Role, built_in
from services.kit import contract

# Resources that manage access and quotas.
_OF_ADMINS = frozenset({"tenants", "api_keys", "roles", "bindings", "policies", "quotas", "privacy_filters"})
_VERBS = {
    "viewer": frozenset({"get", "list", "read", "search"}),
    "operator": frozenset(
        {
            *("infer", "push", "record", "run", "cancel", "promote", "preview", "discover", "test", "activate"),
            *("materialise", "join", "cluster"),
        }
    ),
    "developer": frozenset(
        {"create", "update", "delete", "upload", "fit", "submit", "tag", "restore", "branch", "merge", "export"}
    ),
}
# Predictions have no method of the contract on the outside.
_MORE = ("models.infer",)


@cache
def roles() -> Mapping[str, Role]:
    """The built-in roles by name."""
    public = {method.policy.permission for method in contract.all_methods().values() if method.public}
    known = sorted(public.union(_MORE) - {""})
    found, verbs = dict[str, Role](), frozenset[str]()
    for name, more in _VERBS.items():
        verbs |= more
        held = [p for p in known if p.partition(".")[0] not in _OF_ADMINS and p.partition(".")[2] in verbs]
        found[name] = built_in(name, held)
    return found | {"admin": built_in("admin", [ALL])}
