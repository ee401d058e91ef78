"""What the child of a search reads."""

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from services.data.feature_search.work import only, values
from services.data.features import columns
from services.data.schema import Column, ColumnType


def test_a_sample_is_read_without_holding_the_other_rows_of_all_files(tmp_path: Path) -> None:
    texts = [f"{number:0100d}" for number in range(80_000)]
    files = [str(tmp_path / f"{number}.parquet") for number in range(8)]
    for number, path in enumerate(files):
        pq.write_table(pa.table({"text": texts[number * 10_000 : (number + 1) * 10_000]}), path)
    kept = [np.arange(10_000) % 2 == 1 for _ in files]
    chosen = np.sort(np.random.default_rng(1).choice(40_000, 1000, replace=False))

    tracemalloc.start()
    found = values(files, only(kept, chosen), Column("text", ColumnType.STRING))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert found.tolist() == [texts[1::2][place] for place in chosen]
    assert found.tolist() == columns.joined(columns.texts, files, kept, "text")[chosen].tolist()
    assert peak < 4 * 2**20  # of one file they take 1.6 MB, of all that are kept 6 MB
