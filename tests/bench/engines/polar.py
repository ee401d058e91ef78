"""By hand with Polars."""

import sys
from pathlib import Path

import polars as pl
from tasks import run  # type: ignore[import-not-found]

KEPT = ("id", "month", "day", "hour", "carrier", "origin", "dest", "distance", "dep_delay", "arr_delay")


def extract(folder: Path) -> None:
    source = pl.scan_csv(folder / "flights.csv")
    source.sink_parquet(folder / "polar.parquet", compression="zstd")


def join(folder: Path) -> None:
    flights, planes = pl.scan_parquet(folder / "polar.parquet"), pl.scan_parquet(folder / "planes" / "planes.parquet")
    joined = flights.join(planes, on="tailnum", how="left")
    lost = (pl.col("arr_delay") - pl.col("dep_delay")).alias("lost")
    joined.select(*KEPT, lost, "manufacturer", "seats").sink_parquet(
        folder / "polar-joined.parquet", compression="zstd"
    )


def group(folder: Path) -> None:
    found = pl.scan_parquet(folder / "polar.parquet").group_by("carrier", "month")
    made = [pl.len().alias("flights"), pl.col("arr_delay").mean().alias("late"), pl.col("distance").sum().alias("far")]
    found.agg(*made).sort("carrier", "month").collect()


if __name__ == "__main__":
    run(Path(sys.argv[1]), {"extract": extract, "join": join, "group": group})
