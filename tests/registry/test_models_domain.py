from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from services.kit.errors import Code, Failure
from services.registry.models import domain
from services.registry.models.domain import Contents, File, Model, Stage, Version

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 13, tzinfo=UTC)
CONTENTS = Contents((File("model.onnx", "sha256:aa"), File("card.md", "sha256:bb")), "sha256:cc")


def version(number: int = 1, stage: Stage = Stage.CANDIDATE, wanted: bool = False) -> Version:
    return Version("late", number, CONTENTS, NOON, stage, wanted)


def model(latest: int = 0) -> Model:
    return Model("late", "", NOON, NOON, latest)


def code(call: object, *values: object) -> Code:
    with pytest.raises(Failure) as caught:
        call(*values)  # type: ignore[operator]
    return caught.value.code


@pytest.mark.parametrize("before", Stage)
@pytest.mark.parametrize("after", Stage)
def test_a_version_moves_as_the_table_says(before: Stage, after: Stage) -> None:
    legal = {
        (Stage.CANDIDATE, Stage.SERVING),
        (Stage.CANDIDATE, Stage.DELETED),
        (Stage.SERVING, Stage.RETIRED),
        (Stage.RETIRED, Stage.SERVING),
        (Stage.RETIRED, Stage.DELETED),
        (Stage.DELETED, Stage.CANDIDATE),
    }
    if (before, after) in legal:
        moved = domain.move(version(stage=before), after, LATER)
        assert (moved.stage, moved.generation) == (after, 2)
        assert moved.delete_time == (LATER if after is Stage.DELETED else None)
    else:
        assert code(domain.move, version(stage=before), after, LATER) is Code.FAILED_PRECONDITION


def test_a_version_that_is_about_to_serve_cannot_be_deleted() -> None:
    assert code(domain.move, version(wanted=True), Stage.DELETED, LATER) is Code.FAILED_PRECONDITION


def test_a_number_is_the_next_one() -> None:
    numbered = domain.numbered(model(latest=7), LATER)

    assert (numbered.latest_version, numbered.generation, numbered.update_time) == (8, 2, LATER)


def test_stages_follow_a_release() -> None:
    versions = [version(1, Stage.SERVING), version(2, wanted=True), version(3)]

    changed = domain.project(versions, serving=2, wanted=(), now=LATER)

    assert [(v.version, v.stage, v.wanted) for v in changed] == [(1, "retired", False), (2, "serving", False)]


@given(
    some.lists(some.sampled_from([Stage.CANDIDATE, Stage.RETIRED, Stage.SERVING]), min_size=1, max_size=6),
    some.integers(0, 6),
    some.sets(some.integers(0, 6), max_size=3),
)
def test_following_twice_changes_nothing_and_one_version_serves(
    stages: list[Stage], serving: int, wanted: set[int]
) -> None:
    before = {number: version(number, stage) for number, stage in enumerate(stages, 1)}
    after = before | {v.version: v for v in domain.project(list(before.values()), serving, wanted, LATER)}

    assert not domain.project(list(after.values()), serving, wanted, LATER)
    assert [n for n, v in after.items() if v.stage is Stage.SERVING] == [n for n in after if n == serving]
    assert [n for n, v in after.items() if v.wanted] == [n for n in after if n in wanted]


def test_a_model_with_a_serving_version_cannot_be_deleted() -> None:
    assert code(domain.delete, model(), [version(stage=Stage.SERVING)], "1", LATER) is Code.FAILED_PRECONDITION
    assert code(domain.delete, model(), [version(wanted=True)], "1", LATER) is Code.FAILED_PRECONDITION


def test_deleting_needs_the_etag_that_is_now() -> None:
    assert code(domain.delete, model(), [], "2", LATER) is Code.ETAG_MISMATCH
    assert domain.delete(model(), [version()], "1", LATER).delete_time == LATER
    assert domain.delete(model(), [], "*", LATER).generation == 2


@pytest.mark.parametrize("deleted", [None, NOON])
def test_a_name_is_never_used_twice(deleted: datetime | None) -> None:
    assert code(domain.must_be_new, replace(model(), delete_time=deleted), "late") is Code.ALREADY_EXISTS


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["../model.onnx"], Code.INVALID_NAME),
        (["model.onnx", "a/b.md"], Code.INVALID_NAME),
        (["model.onnx", ".hidden.md"], Code.INVALID_NAME),
        (["model.onnx", "x\0.md"], Code.INVALID_NAME),
        (["model.onnx", "CON\\x.md"], Code.INVALID_NAME),
        (["model.onnx", ""], Code.INVALID_NAME),
        (["model.onnx", "weights.pkl"], Code.UNSUPPORTED_FORMAT),
        (["model.onnx", "model.pt"], Code.UNSUPPORTED_FORMAT),
        (["model.onnx", "weights.data"], Code.UNSUPPORTED_FORMAT),
        (["model.onnx", "model.onnx.zip"], Code.UNSUPPORTED_FORMAT),
        (["model.onnx", "other.onnx"], Code.UNSUPPORTED_FORMAT),
        (["card.md"], Code.INVALID_VALUE),
        (["model.onnx", "model.onnx"], Code.INVALID_VALUE),
        (["model.onnx", "card.md", "card.md"], Code.INVALID_VALUE),
    ],
)
def test_files_that_a_version_cannot_have(names: list[str], expected: Code) -> None:
    assert code(domain.check_files, [File(name, "sha256:aa") for name in names]) is expected


def test_files_that_a_version_may_have() -> None:
    names = ["model.onnx", "card.md", "notes.txt", "environment.json"]
    domain.check_files([File(name, "sha256:aa") for name in names])

    assert [domain.media_type(name) for name in names] == [
        "application/octet-stream",
        "text/markdown",
        "text/plain",
        "application/json",
    ]


def test_a_version_knows_its_graph() -> None:
    assert CONTENTS.graph_digest == "sha256:aa"
