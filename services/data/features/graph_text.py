"""Words of texts in a graph: whole numbers are added, so that neither other rows nor the longest text matter."""

import numpy as np
from onnx import TensorProto

from services.data.features.constants import WORDS, HashedWords, Words
from services.data.features.nodes import Graph

# Squares of weights are added as whole numbers of 2^-28: 256 of 2^24 stay below 2^63.
_UNIT = 2.0**28


def _words(graph: Graph, text: str) -> str:
    """The words of each text [rows + 1, most words], padded with empty texts.

    There is a row more, an empty text, because the operators refuse none. `_without` takes it away.
    """
    flat = graph.add("Reshape", text, graph.whole(-1))
    flat = graph.add("Concat", flat, graph.constant(np.array([""], object)), axis=0)
    lower = graph.add("StringNormalizer", flat, case_change_action="LOWER", is_case_sensitive=1, locale="C")
    split = graph.add("StringSplit", lower, maxsplit=WORDS)
    return graph.add("Slice", split, graph.whole(0), graph.whole(WORDS), graph.whole(1))


def _without(graph: Graph, rows: str, columns: int) -> str:
    """The first columns of all rows but the last."""
    return graph.add("Slice", rows, graph.whole(0, 0), graph.whole(-1, columns), graph.whole(0, 1))


def hashed(graph: Graph, work: HashedWords, text: str) -> str:
    """How many words fall into each bucket, FP32."""
    words = _words(graph, text)
    padding = graph.add("Equal", words, graph.constant(np.array([[""]], object)))
    place = graph.add("Where", padding, graph.whole(work.buckets), graph.bucket(words, work.buckets))
    zero, one = (graph.constant(np.array([[number]], np.float32)) for number in (0, 1))
    rows = graph.add("Slice", graph.add("Shape", words), graph.whole(0), graph.whole(1))
    zeros = graph.add("Expand", zero, graph.add("Concat", rows, graph.whole(work.buckets + 1), axis=0))
    ones = graph.add("Expand", one, graph.add("Shape", place))
    counts = graph.add("ScatterElements", zeros, place, ones, axis=1, reduction="add")
    return _without(graph, counts, work.buckets)


def weighted(graph: Graph, work: Words, text: str) -> str:
    """Weights of words as a vector of length 1, FP32; zeros for a text without any of them."""
    size = len(work.words)
    found = graph.add(
        "TfIdfVectorizer",
        _words(graph, text),
        mode="TFIDF",
        min_gram_length=1,
        max_gram_length=1,
        max_skip_count=0,
        ngram_counts=[0],
        ngram_indexes=list(range(size)),
        pool_strings=list(work.words),
        weights=list(work.weights),
    )
    values = graph.double(_without(graph, found, size))
    squares = graph.add("Mul", graph.add("Mul", values, values), graph.number(_UNIT))
    whole = graph.add("Cast", graph.add("Round", squares), to=TensorProto.INT64)
    total = graph.double(graph.add("ReduceSum", whole, graph.whole(1)))
    length = graph.add("Sqrt", graph.add("Div", total, graph.number(_UNIT)))
    length = graph.add("Where", graph.add("Greater", total, graph.number(0.0)), length, graph.number(1.0))
    return graph.add("Cast", graph.add("Div", values, length), to=TensorProto.FLOAT)
