"""The rows that a run leaves for the next one and for online readers: what windows may still reach back to.

A Parquet file sorted by key and time. `KEY` is the key as one text, `PLACE` how many rows of the key came before, ever;
each input has its column, as numbers or texts. The last row of every key is there, which tells what is late.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.data.arrow import arrow_schema, fit
from services.data.schema import Column, ColumnType
from services.data.series.keys import value_type

KEY, TIME, PLACE = "__key", "__time", "__place"
_GROUP = 8_192  # rows that a reader of one key has to decode
OWN = (Column(KEY, ColumnType.STRING), Column(TIME, ColumnType.INT64), Column(PLACE, ColumnType.INT64))


def columns(inputs: Sequence[Column]) -> tuple[Column, ...]:
    """The columns of a state over these inputs."""
    return (*OWN, *(Column(column.name, value_type(column.type)) for column in inputs))


def empty(inputs: Sequence[Column]) -> Any:
    """A state of no rows, as an Arrow table."""
    return arrow_schema(columns(inputs)).empty_table()


class Writer:
    """Writes one file, in order."""

    def __init__(self, path: Path, inputs: Sequence[Column]) -> None:
        import pyarrow.parquet as pq

        self._columns = columns(inputs)
        self._file = pq.ParquetWriter(path, arrow_schema(self._columns), compression="zstd", compression_level=1)

    def write(self, rows: Any) -> None:
        """Adds the rows of an Arrow table."""
        if rows.num_rows:
            self._file.write_table(fit(rows, self._columns), row_group_size=_GROUP)

    def close(self) -> None:
        """Ends the file."""
        self._file.close()


def read_key(path: str | Path, key: str) -> Any:
    """The rows of one key, as an Arrow table; none where the key is not known. Reads the groups that may have it."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        at, found = file.schema_arrow.get_field_index(KEY), [file.schema_arrow.empty_table()]
        for group in range(file.num_row_groups):
            known = file.metadata.row_group(group).column(at).statistics
            if known and known.has_min_max and not known.min <= key <= known.max:
                continue
            rows = file.read_row_group(group)
            found.append(rows.filter(pc.equal(rows[KEY], key)))
    return pa.concat_tables(found)
