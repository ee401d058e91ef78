"""Features of one key, a row at a time: what an online store does, by the code that writes tables.

A state is an Arrow table of the rows of one key (`state.columns`), never changed: each step gives the next one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from services.data.series.domain import LATE
from services.data.series.feature import Feature
from services.data.series.keys import number_or_text
from services.data.series.state import KEY, PLACE, TIME
from services.kit.errors import FailedPrecondition

Values = Mapping[str, Any]


def ask(features: Sequence[Feature], state: Any, time: int) -> dict[str, Any]:
    """The features that a row of this key would have at a time (microseconds since 1970), by name.

    Raises failed_precondition for a time before the last row of the state: rows that it would need may be gone.
    """
    return _step(features, state, time, {})[0]


def push(features: Sequence[Feature], state: Any, key: str, time: int, values: Values) -> tuple[dict[str, Any], Any]:
    """The features of a row, and the state with it. Raises failed_precondition for one that is late."""
    import pyarrow as pa

    found, rows, needed = _step(features, state, time, values)
    kept = rows.filter(pa.array(needed))
    at = kept.schema.get_field_index(KEY)
    return found, kept.set_column(at, KEY, pa.array([key] * kept.num_rows, pa.string()))


def _step(features: Sequence[Feature], state: Any, time: int, values: Values) -> tuple[dict[str, Any], Any, Any]:
    import numpy as np
    import pyarrow as pa

    from services.data.series import computing
    from services.data.series.windows import Block

    times, places = (state[name].to_numpy() for name in (TIME, PLACE))
    if len(times) and time < times[-1]:
        raise FailedPrecondition(f"the time is {LATE}: the key has a row of a later one")
    row = {TIME: [time], PLACE: [int(places[-1]) + 1 if len(places) else 0], KEY: [""]}
    fields = {field.name: field.type for field in state.schema}
    arrays = {name: pa.array(value, fields[name]) for name, value in row.items()}
    for name in fields.keys() - row.keys():
        arrays[name] = number_or_text(pa.array([values.get(name)])).cast(fields[name])
    rows = pa.concat_tables([state, pa.table([arrays[name] for name in fields], schema=state.schema)])
    block = Block(np.zeros(rows.num_rows, np.int64), rows[TIME].to_numpy(), rows[PLACE].to_numpy())
    inputs = {name: rows[name].combine_chunks() for name in fields.keys() - row.keys()}
    found, needed = computing.features(features, block, inputs, np.array([rows.num_rows - 1]))
    return {name: column[0].as_py() for name, column in found.items()}, rows, needed
