"""The built-in roles beside the contract that they come from."""

import pytest

from aimass.v1 import options_pb2
from services.gateway.roles import builtin
from services.kit import contract

METHODS = [method for method in contract.all_methods().values() if method.public and method.policy.permission]
NEEDED = {method.policy.permission for method in METHODS}


def has(role: str) -> set[str]:
    return set(builtin.roles()[role].permissions)


def test_each_has_what_the_one_before_it_has_and_more() -> None:
    assert has("viewer") < has("operator") < has("developer")
    assert has("admin") == {"*"}


def test_a_viewer_changes_nothing() -> None:
    changing = {m.policy.permission for m in METHODS if m.policy.effect != options_pb2.EFFECT_SAFE}

    assert not has("viewer") & changing


def test_an_operator_makes_and_removes_nothing_that_has_a_name() -> None:
    names = ("Create", "Update", "Delete")
    # How requests are shared among versions is no thing with a name: who may promote may say it.
    methods = [m for m in METHODS if m.descriptor.name.startswith(names) and m.descriptor.name != "UpdateTraffic"]

    assert not has("operator") & {m.policy.permission for m in methods}


def test_who_may_what_is_for_admins() -> None:
    secret = {p for p in NEEDED if p.split(".")[0] in ("tenants", "api_keys", "roles", "bindings", "quotas")}

    assert secret
    assert not has("developer") & {*secret, "limits.write"}


def test_all_that_is_not_about_who_may_what_belongs_to_a_role_below_admin() -> None:
    """A new verb in the contract has to be given to one of them here, or by decision to none."""
    about = ("tenants.", "api_keys.", "roles.", "bindings.", "policies.", "quotas.", "limits.write", "privacy_filters.")
    masked = "data_sets.unmask"  # who sees masked columns

    assert {p for p in NEEDED if not p.startswith((*about, masked))} == has("developer") - {"models.infer"}


@pytest.mark.parametrize(
    ("role", "permission", "held"),
    [
        ("viewer", "models.get", True),
        ("viewer", "limits.read", True),
        ("viewer", "models.infer", False),
        ("viewer", "rules.test", False),
        ("operator", "models.infer", True),
        ("operator", "versions.promote", True),
        ("operator", "models.create", False),
        ("developer", "jobs.submit", True),
        ("developer", "api_keys.create", False),
    ],
)
def test_roles_are_what_their_names_say(role: str, permission: str, held: bool) -> None:
    assert (permission in has(role)) is held
