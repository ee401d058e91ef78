"""How tests of features run a graph."""

import onnxruntime

from services.data.features.constants import Array

OPTIONS = onnxruntime.SessionOptions()
OPTIONS.intra_op_num_threads = 1
OPTIONS.log_severity_level = 3


def run(data: bytes, **columns: Array) -> Array:
    """The features [rows, outputs] of columns [rows]."""
    session = onnxruntime.InferenceSession(data, OPTIONS)
    found: Array = session.run(None, {name: values[:, None] for name, values in columns.items()})[0]
    return found
