"""By hand with the engines that the data service uses: pyarrow for files, DataFusion for SQL."""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
from deltalake import DeltaTable, QueryBuilder, convert_to_deltalake

from tests.bench.engines.tasks import GROUP, JOIN, run


def _write(reader: pa.RecordBatchReader, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with pq.ParquetWriter(path, reader.schema, compression="zstd", compression_level=1) as writer:
        for batch in reader:
            writer.write_batch(batch)


def extract(folder: Path) -> None:
    options = csv.ConvertOptions(null_values=[""], strings_can_be_null=True)
    with csv.open_csv(folder / "flights.csv", convert_options=options) as reader:
        _write(reader, folder / "fusion" / "flights.parquet")


def _query(folder: Path, sql: str) -> pa.RecordBatchReader:
    query = QueryBuilder()
    query.execute("SET datafusion.execution.target_partitions = 1")
    for name in ("fusion", "planes"):
        if not (folder / name / "_delta_log").exists():
            convert_to_deltalake(str(folder / name))
    query.register("flights", DeltaTable(str(folder / "fusion"))).register("planes", DeltaTable(str(folder / "planes")))
    return pa.RecordBatchReader.from_stream(query.execute(sql))


def join(folder: Path) -> None:
    _write(_query(folder, JOIN), folder / "fusion-joined" / "joined.parquet")


def group(folder: Path) -> None:
    _query(folder, GROUP).read_all()


if __name__ == "__main__":
    run(Path(sys.argv[1]), {"extract": extract, "join": join, "group": group})
