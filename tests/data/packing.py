"""Compressed and columnar files, as other programs write them."""

import gzip
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def zstd(data: bytes) -> bytes:
    """One frame of Zstandard, as the `zstd` command writes it."""

    class Kept(io.BytesIO):
        def close(self) -> None:
            """The bytes are wanted."""

    file = Kept()
    with pa.CompressedOutputStream(pa.PythonFile(file, mode="w"), "zstd") as out:
        out.write(data)
    return file.getvalue()


PACKERS = {"gzip": gzip.compress, "zstd": zstd}


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    """A Parquet file."""
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **options)
    return file.getvalue()
