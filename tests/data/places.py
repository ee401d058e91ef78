"""Files that the tests of sources, rules and extractions read."""

import sqlite3
from pathlib import Path

TENANT = "acme"


def folder(home: Path, tenant: str = TENANT) -> Path:
    """A tenant's import folder."""
    place = home / "import" / tenant
    place.mkdir(parents=True, exist_ok=True)
    return place


def write(home: Path, name: str, text: str, tenant: str = TENANT) -> Path:
    """A file in the import folder."""
    path = folder(home, tenant) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def flights(home: Path, rows: int = 5, first: int = 1, tenant: str = TENANT) -> Path:
    """A SQLite database with a table of flights; called again, it adds rows."""
    path = folder(home, tenant) / "flights.db"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS flights (id INTEGER PRIMARY KEY, carrier TEXT, dep_delay REAL, time_hour TEXT)"
        )
        values = [
            (i, "UA" if i % 2 else "DL", i / 2, f"2013-01-01 {i % 24:02}:00:00") for i in range(first, first + rows)
        ]
        connection.executemany("INSERT INTO flights VALUES (?, ?, ?, ?)", values)
    connection.close()
    return path
