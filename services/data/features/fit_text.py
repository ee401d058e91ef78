"""Fits steps that take the words of a text."""

from collections import Counter
from string import ascii_lowercase, ascii_uppercase

import numpy as np

from services.data.features.constants import WORDS, Fitting, HashedWords, Words
from services.data.features.steps import Step
from services.kit.errors import FailedPrecondition

_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


def words(text: str) -> list[str]:
    """The words that the graph finds in a text: only spaces are between them, only A to Z have a lower case."""
    return [word for word in text.translate(_LOWER).split(" ") if word][:WORDS]


def hashed(step: Step, fitting: Fitting) -> tuple[HashedWords, list[str]]:
    """Nothing is fitted: the hash of a word says which output counts it."""
    return HashedWords(step.buckets), [f"text_hash({step.column})={place}" for place in range(step.buckets)]


def weighted(step: Step, fitting: Fitting) -> tuple[Words, list[str]]:
    """The most frequent words, in alphabetical order, and the smoothed inverse share of rows that have each."""
    texts = fitting.raw["column"]
    everywhere, rows = Counter[str](), Counter[str]()
    for found in map(words, texts):
        everywhere.update(found)
        rows.update(set(found))
    if not everywhere:
        raise FailedPrecondition(f"{step.column} has no word in the training rows")
    most = sorted(everywhere.items(), key=lambda item: (-item[1], item[0]))[: step.max_categories]
    kept = sorted(word for word, _ in most)
    weights = np.log((1 + len(texts)) / (1 + np.array([rows[word] for word in kept]))) + 1
    names = [f"text_tfidf({step.column})={word}" for word in kept]
    return Words(tuple(kept), tuple(weights.astype(np.float32).tolist())), names
