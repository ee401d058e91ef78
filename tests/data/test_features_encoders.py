"""Encoders of categories beside scikit-learn, for what they have seen and what they have not."""

from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
from sklearn.feature_extraction import FeatureHasher
from sklearn.preprocessing import OrdinalEncoder, TargetEncoder

from services.data.features import graph
from services.data.features.constants import Array
from services.data.features.fitting import FittedStep, fit
from services.data.features.steps import Imputation, Step, Transform
from services.kit import folds
from services.kit.errors import FailedPrecondition
from tests.data.graphs import OPTIONS, run

RANDOM = np.random.default_rng(4)
SEEN = RANDOM.choice(np.array(["UA", "AA", "", "naïve", "日本", "N14228"], object), 300)
ASKED = np.array([*SEEN[:50], "unseen", "ua", " UA", "N14228\0"], object)
LABEL = (RANDOM.random(300) < 0.4).astype(float)
FOLD = folds.of(pa.array(range(300)))


def encoded(step: FittedStep, **columns: Array) -> Array:
    return run(graph.compile_graph([step]), **columns)


def test_ordinals_are_those_of_scikit_learn() -> None:
    theirs = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1).fit(SEEN[:, None])

    found = encoded(fit(Step("x", Transform.ORDINAL), SEEN), x=ASKED)
    np.testing.assert_array_equal(found, theirs.transform(ASKED[:, None]))


def test_ordinals_of_numbers_leave_a_missing_one_unseen() -> None:
    step = fit(Step("x", Transform.ORDINAL), np.array([5.0, -0.0, np.nan, 2.5, 0.0]))
    filled = fit(Step("x", Transform.ORDINAL, Imputation.CONSTANT, 5.0), np.array([2.5, np.nan]))

    assert encoded(step, x=np.array([0.0, 2.5, 5.0, 3.0, np.nan]))[:, 0].tolist() == [0, 1, 2, -1, -1]
    assert encoded(filled, x=np.array([np.nan, 2.5]))[:, 0].tolist() == [1, 0]


def hashes(values: Array, buckets: int) -> Array:
    hasher = FeatureHasher(buckets, input_type="string", alternate_sign=False)
    found: Array = hasher.transform([[value] for value in values]).toarray()
    return found


@pytest.mark.parametrize("buckets", [2, 7, 64, 1024])
def test_hashes_are_those_of_scikit_learn_also_of_what_was_never_seen(buckets: int) -> None:
    found = encoded(fit(Step("x", Transform.HASH, buckets=buckets), SEEN), x=ASKED)

    np.testing.assert_array_equal(found, hashes(ASKED, buckets))
    assert len(fit(Step("x", Transform.HASH, buckets=buckets), SEEN).outputs) == buckets


def test_numbers_fall_into_buckets_and_a_missing_one_into_none() -> None:
    step = fit(Step("x", Transform.HASH, buckets=16), np.array([1.0]))
    found = encoded(step, x=np.array([0.0, -0.0, np.nan, *range(1, 1001)]))

    assert found.sum(axis=1).tolist() == [1, 1, 0, *[1] * 1000]
    np.testing.assert_array_equal(found[0], found[1])
    assert found.sum(axis=0).min() > 30


@pytest.mark.parametrize("smoothing", [0.0, 0.5, 10.0])
def test_targets_are_those_of_scikit_learn_where_no_fold_is_given(smoothing: float) -> None:
    theirs = TargetEncoder(smooth=smoothing, target_type="continuous").fit(SEEN[:, None], LABEL)

    step = fit(Step("x", Transform.TARGET, smoothing=smoothing), SEEN, {"label": LABEL, "fold": FOLD})
    np.testing.assert_allclose(encoded(step, x=ASKED), theirs.transform(ASKED[:, None]), rtol=1e-6)
    assert step.outputs == ("target(x)",)


def test_a_row_in_training_gets_what_the_other_folds_say() -> None:
    step = fit(Step("x", Transform.TARGET, smoothing=3.0), SEEN, {"label": LABEL, "fold": FOLD})
    asked = np.array([*SEEN, "unseen"], object)
    fold = np.array([*FOLD, 2])
    found = encoded(step, **{"x": asked, folds.INPUT: fold.astype(float)})

    for text, part, value in zip(asked, fold, found[:, 0], strict=True):
        prior = LABEL[part != FOLD].mean()
        same = LABEL[(part != FOLD) & (text == SEEN)]
        assert value == pytest.approx((same.sum() + 3 * prior) / (len(same) + 3), rel=1e-6)


def test_a_category_of_one_row_says_nothing_of_its_label_in_training() -> None:
    names = np.array([f"n{number}" for number in range(300)], object)
    step = fit(Step("x", Transform.TARGET, smoothing=0.0), names, {"label": LABEL, "fold": FOLD})
    data = graph.compile_graph([step])

    np.testing.assert_array_equal(run(data, x=names)[:, 0], LABEL)
    held = run(data, **{"x": names, folds.INPUT: FOLD.astype(float)})[:, 0]
    assert len(set(held.tolist())) <= folds.FOLDS
    assert abs(np.corrcoef(held, LABEL)[0, 1]) < 0.5


def test_labels_that_are_missing_count_for_nothing() -> None:
    values, label = np.array(["a", "a", "b", "c"], object), np.array([1.0, np.nan, 0.0, np.nan])
    others = {"label": label, "fold": np.array([0, 0, 1, 2])}
    step = fit(Step("x", Transform.TARGET, smoothing=0.0), values, others)

    assert encoded(step, x=np.array(["a", "b", "c", "d"], object))[:, 0].tolist() == [1, 0, 0.5, 0.5]
    with pytest.raises(FailedPrecondition, match="the label has no value"):
        fit(Step("x", Transform.TARGET), values, {**others, "label": np.full(4, np.nan)})


def test_all_rows_may_be_in_one_fold() -> None:
    others = {"label": np.array([1.0, 0.0]), "fold": np.array([3, 3])}
    step = fit(Step("x", Transform.TARGET, smoothing=0.0), np.array([1.0, 2.0]), others)
    found = run(graph.compile_graph([step]), **{"x": np.array([1.0, 1.0, 9.0]), folds.INPUT: np.array([3.0, 0, 3])})

    assert found[:, 0].tolist() == [0.5, 1.0, 0.5]


def test_the_fold_is_an_input_that_serving_does_not_see() -> None:
    steps: list[Any] = [Step("x", Transform.TARGET), Step("y", Transform.TARGET)]
    others = {"label": LABEL, "fold": FOLD}
    data = graph.compile_graph([fit(step, SEEN, others) for step in steps])
    session = onnxruntime.InferenceSession(data, OPTIONS)

    assert [node.name for node in session.get_inputs()] == ["x", "y"]
    assert [node.name for node in session.get_overridable_initializers()] == [folds.INPUT]
