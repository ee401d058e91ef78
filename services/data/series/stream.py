"""Computes features over rows that come by key, history first, then by time: batch by batch, in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from services.data.schema import Column, ColumnType
from services.data.series import computing, state
from services.data.series.feature import Feature
from services.data.series.state import KEY, PLACE, TIME
from services.data.series.windows import Array, Block

FRESH, ORDER, VALUE = "__fresh", "__order", "__value_"
# What is added to rows before they are sorted: the key as text, the time, whether the row is new, its place.
ADDED = (
    Column(KEY, ColumnType.STRING),
    Column(TIME, ColumnType.INT64),
    Column(FRESH, ColumnType.BOOL),
    Column(ORDER, ColumnType.INT64),
)
SORTED = f'"{KEY}", "{FRESH}", "{TIME}", "{ORDER}"'


@dataclass(frozen=True)
class Step:
    """What a batch came to: its new rows with their features, rows that are late, rows that the state keeps."""

    rows: Any
    features: dict[str, Any]
    late: Any
    kept: Any


class Stream:
    """Takes batches in order; a key may go on in the next one."""

    def __init__(self, features: Sequence[Feature], inputs: Sequence[Column]) -> None:
        self._features, self._names = features, [column.name for column in inputs]
        self._carried = state.empty(inputs)

    def add(self, batch: Any) -> Step:
        """The next rows, with the columns `ADDED` and one `VALUE + name` for each input. Raises limit_exceeded."""
        history = self._as_state(batch)
        rows = pa.concat_tables([self._carried, history]).combine_chunks()
        before = self._carried.num_rows
        fresh = np.concatenate([np.zeros(before, bool), _array(batch, FRESH)])
        codes = np.asarray(rows[KEY].combine_chunks().dictionary_encode().indices)
        late = _late(codes, rows[TIME].to_numpy(), fresh)
        taken = ~late
        rows, codes, is_new = rows.filter(pa.array(taken)), codes[taken], fresh[taken]
        block = Block(codes, rows[TIME].to_numpy(), _places(codes, rows[PLACE].to_numpy(), is_new))
        inputs = {name: rows[name].combine_chunks() for name in self._names}
        found, needed = computing.features(self._features, block, inputs, np.flatnonzero(is_new))
        kept = rows.set_column(rows.schema.get_field_index(PLACE), PLACE, pa.array(block.places))
        kept = kept.filter(pa.array(needed))
        # The last key may go on.
        done = np.searchsorted(codes[needed], codes[-1]) if len(codes) else 0
        self._carried = kept.slice(done)
        is_late = late[before:]
        return Step(
            batch.filter(pa.array(_array(batch, FRESH) & ~is_late)),
            found,
            batch.filter(pa.array(is_late)),
            kept.slice(0, done),
        )

    def close(self) -> Any:
        """What the state keeps of the last key."""
        return self._carried

    def _as_state(self, batch: Any) -> Any:
        names = [KEY, TIME, ORDER, *(f"{VALUE}{name}" for name in self._names)]
        return batch.select(names).rename_columns([KEY, TIME, PLACE, *self._names]).cast(self._carried.schema)


def _array(batch: Any, name: str) -> Array:
    return np.asarray(batch[name].to_numpy(zero_copy_only=False), bool)


def _late(codes: Array, times: Array, fresh: Array) -> Array:
    """New rows of a time before the last one that the history of their key has. Codes rise from key to key."""
    last = np.full(int(codes.max()) + 1 if len(codes) else 0, np.iinfo(np.int64).min)
    last[codes[~fresh]] = times[~fresh]  # by time: the last one stays
    return np.asarray(fresh & (times < last[codes]))


def _places(codes: Array, places: Array, fresh: Array) -> Array:
    """How many rows of the key came before each: history knows, new rows go on from it."""
    begins = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]])[: len(codes)])
    counts = np.diff(np.append(begins, len(codes)))
    first = np.where(fresh[begins], 0, places[begins])
    return np.arange(len(codes)) - np.repeat(begins - first, counts)
