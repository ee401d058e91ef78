"""By hand with Daft on its native runner."""

import sys
from pathlib import Path

import daft
from daft import col
from tasks import run  # type: ignore[import-not-found]

KEPT = ("id", "month", "day", "hour", "carrier", "origin", "dest", "distance", "dep_delay", "arr_delay")


def extract(folder: Path) -> None:
    found = daft.read_csv(str(folder / "flights.csv"))
    found.write_parquet(str(folder / "daft"), compression="zstd")


def join(folder: Path) -> None:
    flights, planes = (
        daft.read_parquet(f"{folder}/daft/*.parquet"),
        daft.read_parquet(f"{folder}/planes/planes.parquet"),
    )
    joined = flights.join(planes, on="tailnum", how="left")
    lost = (col("arr_delay") - col("dep_delay")).alias("lost")
    joined.select(*map(col, KEPT), lost, col("manufacturer"), col("seats")).write_parquet(str(folder / "daft-joined"))


def group(folder: Path) -> None:
    found = daft.read_parquet(f"{folder}/daft/*.parquet").groupby("carrier", "month")
    made = [
        col("id").count().alias("flights"),
        col("arr_delay").mean().alias("late"),
        col("distance").sum().alias("far"),
    ]
    found.agg(*made).sort(["carrier", "month"]).collect()


if __name__ == "__main__":
    run(Path(sys.argv[1]), {"extract": extract, "join": join, "group": group})
