"""How tests of features run a graph."""

from collections.abc import Mapping

import numpy as np
import onnxruntime

from services.data.features.constants import Array

OPTIONS = onnxruntime.SessionOptions()
OPTIONS.intra_op_num_threads = 1
OPTIONS.log_severity_level = 3


def run(data: bytes, **columns: Array) -> Array:
    """The features [rows, outputs] of columns [rows]."""
    return in_batches(data, columns, len(next(iter(columns.values()))))


def in_batches(data: bytes, columns: Mapping[str, Array], size: int, rows: int | None = None) -> Array:
    """The features of the first rows, computed in batches of that size."""
    session, count = onnxruntime.InferenceSession(data, OPTIONS), rows or len(next(iter(columns.values())))
    starts = range(0, max(count, 1), max(size, 1))
    parts = [
        session.run(None, {name: values[at : min(at + size, count), None] for name, values in columns.items()})[0]
        for at in starts
    ]
    return np.concatenate(parts)
