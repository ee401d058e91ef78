import pytest
from starlette.routing import compile_path

from services.gateway.api import negotiation, routes
from services.kit import contract
from services.kit.errors import Failure

TABLE = routes.table(method for method in contract.all_methods().values() if method.public)
TEMPLATES = {entry.template for entry in TABLE}


def matched(path: str) -> str:
    """The template of the first route that takes a path."""
    for entry in TABLE:
        if compile_path(routes.path(entry.template, TEMPLATES))[0].match(path):
            return entry.template
    return ""


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/v1/models/late", "/v1/models/{model}"),
        ("/v1/models/late:undelete", "/v1/models/{model}:undelete"),
        ("/v1/models/late:nothing", ""),
        ("/v1/models/late/versions/3:promote", "/v1/models/{model}/versions/{version}:promote"),
        ("/v1/data-sets:query", "/v1/data-sets:query"),
        ("/v1/artifacts/sha256:00", "/v1/artifacts/{digest}"),
        ("/v1/artifacts/uploads", "/v1/artifacts/uploads"),
        ("/v1/models/", ""),
        ("/v1/models/a/b", ""),
        ("/v1/modelsx", ""),
    ],
)
def test_a_path_means_one_thing(path: str, template: str) -> None:
    assert matched(path) == template


def test_every_template_takes_its_own_paths() -> None:
    wrong = [
        entry.template for entry in TABLE if matched(entry.template.replace("{", "").replace("}", "")) != entry.template
    ]

    assert wrong == []


def test_one_path_tells_all_its_verbs() -> None:
    tenants = next(entry for entry in TABLE if entry.template == "/v1/tenants")

    assert tenants.allowed == "GET, HEAD, POST"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "a/b"),
        ("*/*", "a/b"),
        ("c/d", "c/d"),
        ("c/*", "c/d"),
        ("a/b;q=0.1, c/d;q=0.9", "c/d"),
        ("x/y, */*;q=0.1", "a/b"),
        ("A/B", "a/b"),
    ],
)
def test_the_caller_chooses(accept: str, chosen: str) -> None:
    assert negotiation.chosen(accept, ("a/b", "c/d")) == chosen


@pytest.mark.parametrize("accept", ["x/y", "a/b;q=0", "a/b;q=nonsense", ",,,"])
def test_what_cannot_be_given_is_refused(accept: str) -> None:
    with pytest.raises(Failure, match="there is a/b or c/d only"):
        negotiation.chosen(accept, ("a/b", "c/d"))
