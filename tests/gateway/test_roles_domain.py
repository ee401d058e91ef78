"""What roles and bindings come to, and what may be handed out."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.roles.domain import Grant, check_permissions, check_places, in_project, lacking, within_projects
from services.kit.auth import Principal, Scope, matches
from services.kit.errors import Failure

PERMISSIONS = ["models.get", "models.delete", "jobs.get"]
PROJECTS = ["flights", "flights-2", "trains"]
THINGS = ["models/fraud", "models/fraud-eu", "models/late", ""]
some_permissions = st.lists(st.sampled_from(["*", "models.*", *PERMISSIONS]), min_size=1, max_size=2).map(tuple)
some_projects = st.lists(st.sampled_from(["f*", "flights*", *PROJECTS]), max_size=2).map(tuple)
some_things = st.lists(st.sampled_from(["models/*", "models/fraud*", *THINGS[:3]]), max_size=2).map(tuple)
some_grants = st.builds(Grant, some_permissions, some_projects, some_things)


def may(grants: list[Grant], permission: str, project: str, thing: str) -> bool:
    return Principal(Scope("acme", project), "key:a", in_project(grants, project)).may(permission, thing)


def test_what_is_for_all_objects_comes_first() -> None:
    found = in_project([Grant(("models.get",), (), ("models/late",)), Grant(("models.list",), ("flights",))], "flights")

    assert found == ("models.list", "models.get@models/late")


@given(st.lists(some_grants, max_size=3), some_grants)
def test_what_is_handed_out_lets_nobody_do_more(held: list[Grant], wanted: Grant) -> None:
    if not lacking(held, wanted):
        for permission, project, thing in product(PERMISSIONS, PROJECTS, THINGS):
            assert may(held, permission, project, thing) or not may([wanted], permission, project, thing)


@given(st.lists(some_grants, max_size=3), st.lists(st.sampled_from(PROJECTS), min_size=1, max_size=2))
def test_in_some_projects_nothing_of_the_others_is_left(held: list[Grant], projects: list[str]) -> None:
    kept = list(within_projects(held, projects))

    for permission, project, thing in product(PERMISSIONS, PROJECTS, THINGS):
        assert may(kept, permission, project, thing) == (project in projects and may(held, permission, project, thing))


@given(some_grants)
def test_a_grant_can_be_handed_on_as_it_is(held: Grant) -> None:
    assert lacking([held], held) == ""


def test_what_lacks_is_named() -> None:
    assert lacking([Grant(("models.*",), (), ("models/late",))], Grant(("models.get",))) == "models.get"


@pytest.mark.parametrize(
    ("projects", "objects", "pointer"),
    [
        (["A"], [], "/projects/0"),
        (["a*b"], [], "/projects/0"),
        (["a", "*"], [], "/projects/1"),
        ([], ["models"], "/objects/0"),
        ([], ["*"], "/objects/0"),
        ([], ["models/*", "models/a*b"], "/objects/1"),
        ([], ["models/a@b"], "/objects/0"),
        ([], ["models/"], "/objects/0"),
    ],
)
def test_what_is_no_pattern_is_named(projects: list[str], objects: list[str], pointer: str) -> None:
    with pytest.raises(Failure) as caught:
        check_places(projects, objects)
    assert [violation.pointer for violation in caught.value.violations] == [pointer]


@pytest.mark.parametrize("permissions", [[], ["models"], ["models.get@models/late"], ["a.*.b"]])
def test_what_is_no_permission_is_refused(permissions: list[str]) -> None:
    with pytest.raises(Failure, match="permissions"):
        check_permissions(permissions)


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [("late", "late", True), ("late", "later", False), ("late*", "later", True), ("models/*", "models/", True)],
)
def test_a_pattern_ends_with_a_star_or_is_the_name(pattern: str, name: str, found: bool) -> None:
    assert matches(pattern, name) is found
