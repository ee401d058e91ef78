"""Rows that are put together give what they give alone; a failure is its owner's only."""

from collections.abc import Sequence

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as some

from services.inference.domain.batches import Answer, Item, answer
from services.inference.domain.tensors import Signature, Values, encode
from services.inference.engine_onnxruntime import OnnxRuntimeEngine, OnnxRuntimeLoader
from services.inference.wire import release_from_wire
from services.kit.errors import Code, Failure
from services.kit.tensors import Tensor
from tests.support import models


def engine(data: bytes) -> OnnxRuntimeEngine:
    from aimass.v1.releases_pb2 import Release, ReleasedVersion

    released = ReleasedVersion(version=1, model_digest="d", signature=models.signature(data))
    desired = release_from_wire(Release(model="m", desired=released)).desired
    assert desired
    return OnnxRuntimeLoader().open(data, desired.signature)


LOGISTIC, LOOKUP, TEXTS = engine(models.logistic()), engine(models.lookup()), engine(models.texts(2))


class Counted:
    """An engine's run with the number of rows of each call."""

    def __init__(self, of: OnnxRuntimeEngine) -> None:
        self.of, self.rows = of, list[int]()

    def __call__(self, inputs: Sequence[Values], outputs: Sequence[str]) -> list[Values]:
        self.rows.append(inputs[0].shape[0])
        return self.of.run(inputs, outputs)


def x(rows: int, seed: int = 0, **fields: object) -> Item:
    values = numpy.random.default_rng(seed).normal(size=(rows, 4)).astype("<f4")
    return Item("r", 10.0, [Tensor("x", "FP32", (rows, 4), values.tobytes())], **fields)  # type: ignore[arg-type]


def i(*indexes: int) -> Item:
    return Item("r", 10.0, [Tensor("i", "INT64", (len(indexes),), numpy.array(indexes, "<i8").tobytes())])


def ask(of: OnnxRuntimeEngine, *items: Item, now: float = 0.0) -> tuple[list[Answer], list[int]]:
    run = Counted(of)
    return answer(run, of.signature, items, now), run.rows


def code(given: Answer) -> Code:
    assert isinstance(given, Failure)
    return given.code


def test_requests_are_run_together_and_taken_apart() -> None:
    answers, calls = ask(LOGISTIC, x(1, 1), x(3, 2), x(2, 3))

    assert calls == [6]
    assert answers == [ask(LOGISTIC, x(n, s))[0][0] for n, s in ((1, 1), (3, 2), (2, 3))]
    assert [t.shape for given in answers if isinstance(given, list) for t in given] == [(1, 1), (3, 1), (2, 1)]


@given(some.lists(some.tuples(some.integers(1, 40), some.integers(0, 99)), min_size=1, max_size=8))
def test_any_division_into_requests_gives_the_same_bytes(sizes: list[tuple[int, int]]) -> None:
    items = [x(rows, seed) for rows, seed in sizes]

    assert ask(LOGISTIC, *items)[0] == [ask(LOGISTIC, one)[0][0] for one in items]


def test_a_version_that_depends_on_its_batch_is_run_one_by_one() -> None:
    dependent = engine(models.dependent())
    one = Item("r", 10.0, [Tensor("x", "FP32", (1, 1), numpy.array([[3]], "<f4").tobytes())])

    answers, calls = ask(dependent, one, one)

    assert calls == [1, 1]
    assert answers[0] == answers[1] == [Tensor("y", "FP32", (1, 1), bytes(4))]


def test_values_that_the_graph_refuses_fail_alone() -> None:
    answers, calls = ask(LOOKUP, i(1, 2), i(99), i(4))

    assert calls == [4, 2, 1, 1]
    assert answers[0] == [Tensor("v", "FP32", (2,), numpy.array([0.25, 0.5], "<f4").tobytes())]
    assert code(answers[1]) is Code.INVALID_VALUE
    assert answers[2] == [Tensor("v", "FP32", (1,), numpy.array([1], "<f4").tobytes())]


def test_a_request_that_does_not_fit_fails_alone() -> None:
    wrong = x(1)._replace(inputs=[Tensor("x", "FP32", (1, 3), bytes(12))])
    answers, calls = ask(LOGISTIC, x(1), wrong, x(1))

    assert calls == [2]
    assert [isinstance(given, list) for given in answers] == [True, False, True]
    assert code(answers[1]) is Code.INVALID_VALUE


def test_a_request_that_is_late_is_not_run() -> None:
    answers, calls = ask(LOGISTIC, x(1)._replace(deadline=5.0), x(2), now=5.0)

    assert calls == [2]
    assert code(answers[0]) is Code.DEADLINE_EXCEEDED


def test_only_the_outputs_that_are_wanted_are_given() -> None:
    texts = [Tensor(f"s{n}", "BYTES", (1, 1), encode([f"v{n}"])) for n in range(2)]
    answers, _ = ask(
        TEXTS, Item("a", 10.0, texts, ["t1"]), Item("b", 10.0, texts), Item("c", 10.0, texts, ["t1", "t0"])
    )

    assert [[t.name for t in given] for given in answers if isinstance(given, list)] == [
        ["t1"],
        ["t0", "t1"],
        ["t1", "t0"],
    ]


def test_an_output_that_is_not_there_is_named() -> None:
    answers, _ = ask(LOGISTIC, x(1, outputs=["score"]))

    with pytest.raises(Failure, match="there is no output score"):
        raise answers[0] if isinstance(answers[0], Failure) else AssertionError


def test_texts_come_out_as_they_went_in() -> None:
    words = ["", "naïve", "日本", "a" * 500]
    inputs = [Tensor(f"s{n}", "BYTES", (4, 1), encode(words)) for n in range(2)]
    answers, calls = ask(TEXTS, Item("a", 10.0, inputs), Item("b", 10.0, inputs))

    assert calls == [8]
    assert answers == [[Tensor(f"t{n}", "BYTES", (4, 1), encode(words)) for n in range(2)]] * 2


def test_no_requests_have_no_answers() -> None:
    assert ask(LOGISTIC) == ([], [])


def test_a_graph_that_is_not_what_its_signature_says_is_not_loaded() -> None:
    wrong = Signature(LOGISTIC.signature.inputs, TEXTS.signature.outputs)

    with pytest.raises(Failure, match="signature"):
        OnnxRuntimeLoader().open(models.logistic(), wrong)


def test_what_was_checked_elsewhere_is_checked_again() -> None:
    elsewhere = LOGISTIC.signature._replace(checked_on="onnxruntime 1.0.0, m68k")
    claimed = engine(models.dependent()).signature._replace(batch_invariant=True, checked_on="elsewhere")

    assert OnnxRuntimeLoader().open(models.logistic(), elsewhere).signature == LOGISTIC.signature
    assert not OnnxRuntimeLoader().open(models.dependent(), claimed).signature.batch_invariant


def test_a_graph_that_does_not_run_is_not_loaded() -> None:
    with pytest.raises(Failure, match="the graph does not run"):
        engine(models.lookup(size=1))
