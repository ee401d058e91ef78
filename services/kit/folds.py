"""Folds of rows by their keys: what is learnt out of fold in one service must be used out of the same fold in another.

A graph of features that has such steps has an input INPUT [rows, 1], FP64, which says the fold of each row, from 0. It
has a default that stands for no fold, so that serving leaves it out.
"""

from typing import Any
from zlib import crc32

FOLDS = 5
INPUT = "__fold"


def of(keys: Any) -> Any:
    """The folds [rows], whole numbers below FOLDS, of an Arrow column of keys; a missing key is in the first.

    Depends on the value alone, not on the other rows or their order.
    """
    import numpy as np
    import pyarrow as pa

    if pa.types.is_string(keys.type) or pa.types.is_large_string(keys.type):
        return np.array([crc32((key or "").encode()) % FOLDS for key in keys.to_pylist()], np.int64)
    if pa.types.is_boolean(keys.type):
        keys = keys.cast(pa.int8())
    if pa.types.is_floating(keys.type):
        numbers = (keys.cast(pa.float64()).fill_null(0.0).to_numpy() + 0.0).view(np.uint64)
    else:
        whole = keys.cast(pa.int32()) if pa.types.is_date32(keys.type) else keys
        numbers = whole.cast(pa.int64()).fill_null(0).to_numpy().view(np.uint64)
    return (_mixed(numbers) % np.uint64(FOLDS)).astype(np.int64)


def _mixed(numbers: Any) -> Any:
    """The finaliser of SplitMix64: neighbours get numbers that have nothing to do with each other."""
    import numpy as np

    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
