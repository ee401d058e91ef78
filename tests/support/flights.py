"""Small raw data of a company: flights in SQLite, weather as CSV files, planes as JSON lines; always the same."""

import csv
import json
import random
import sqlite3
from pathlib import Path

AIRPORTS = ("JFK", "LGA", "EWR")
CARRIERS = ("AA", "B6", "DL", "UA", "EV")
_COLUMNS = """id INTEGER PRIMARY KEY, month INTEGER, day INTEGER, hour INTEGER, carrier TEXT, origin TEXT, dest TEXT,
    tailnum TEXT, distance REAL, dep_delay INTEGER, arr_delay INTEGER"""


def write(folder: Path, months: range, per_month: int = 400, seed: int = 1) -> None:
    """Adds the flights of some months to `flights.db`, and weather and planes where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(folder / "flights.db") as database:
        database.execute(f"CREATE TABLE IF NOT EXISTS flights ({_COLUMNS})")
        (first,) = database.execute("SELECT coalesce(max(id), 0) + 1 FROM flights").fetchone()
        rows = _flights(first, months, per_month, random.Random(seed + months.start))
        database.executemany(f"INSERT INTO flights VALUES ({','.join('?' * 11)})", rows)
    database.close()
    _weather(folder / "weather", months)
    _planes(folder / "planes.jsonl")


def _flights(first: int, months: range, per_month: int, chance: random.Random) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for month in months:
        for number in range(per_month):
            hour, carrier = chance.randint(5, 22), chance.choice(CARRIERS)
            late = (hour - 5) * 1.4 + (15 if carrier == "EV" else 0) + chance.gauss(-12, 14)
            delay: object = round(late)
            if number % 50 == 7:
                delay = None  # cancelled: never arrived
            if number % 97 == 11:
                delay = "soon"  # broken
            row = (month, number % 28 + 1, hour, carrier, chance.choice(AIRPORTS), "BOS", f"N{number % 20}")
            rows.append((first + len(rows), *row, float(chance.randint(150, 2500)), 0, delay))
    return rows


def _weather(folder: Path, months: range) -> None:
    """One file per airport; months are added at its end."""
    folder.mkdir(exist_ok=True)
    for airport in AIRPORTS:
        path = folder / f"{airport}.csv"
        new = not path.exists()
        with open(path, "a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["origin", "month", "hour", "temp", "wind_speed"])
            for month in months:
                for hour in range(24):
                    temp = "" if (month, hour) == (2, 3) else f"{20 + month * 2 + hour / 10:.2f}"
                    writer.writerow([airport, month, hour, temp, f"{hour % 7}.5"])


def _planes(path: Path) -> None:
    if path.exists():
        return
    planes = [{"tailnum": f"N{n}", "year": 1990 + n, "engine": {"seats": 50 + 10 * n}} for n in range(20)]
    path.write_text("".join(json.dumps(plane) + "\n" for plane in planes))
