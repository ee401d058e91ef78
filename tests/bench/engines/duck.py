"""By hand with DuckDB."""

import sys
from pathlib import Path

import duckdb
from tasks import GROUP, JOIN, run  # type: ignore[import-not-found]


def _query(folder: Path, sql: str) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    for name, file in (("flights", "duck.parquet"), ("planes", "planes/planes.parquet")):
        if (folder / file).exists():
            connection.execute(f"CREATE VIEW {name} AS FROM read_parquet('{folder / file}')")
    return connection.execute(sql)


def extract(folder: Path) -> None:
    source = f"read_csv('{folder / 'flights.csv'}')"
    _query(folder, f"COPY (FROM {source}) TO '{folder / 'duck.parquet'}' (FORMAT parquet, COMPRESSION zstd)")


def join(folder: Path) -> None:
    _query(folder, f"COPY ({JOIN}) TO '{folder / 'duck-joined.parquet'}' (FORMAT parquet, COMPRESSION zstd)")


def group(folder: Path) -> None:
    _query(folder, GROUP).fetchall()


if __name__ == "__main__":
    run(Path(sys.argv[1]), {"extract": extract, "join": join, "group": group})
