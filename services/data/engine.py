"""Runs checked SQL over versions with DataFusion, as deltalake brings it. For children: imported when it is used.

One partition, so that the same query over the same versions gives the same rows in the same order.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from services.data.arrow import columns_of
from services.data.schema import Column, check_columns
from services.kit.child import Json
from services.kit.errors import Code, Failure, InvalidValue


def new_session() -> Any:
    """A `deltalake.QueryBuilder` without tables, in which the case of names counts."""
    from deltalake import QueryBuilder

    session = QueryBuilder()
    for setting in ("execution.target_partitions = 1", "sql_parser.enable_ident_normalization = false"):
        session.execute(f"SET datafusion.{setting}")
    return session


class Engine:
    """The tables of one query by name: `{uri, version}`, the number being Delta's; `view`: what is seen of one."""

    def __init__(self, tables: Mapping[str, Json], spill: tuple[str, int] | None = None) -> None:
        """`spill`: a folder, and the MiB beyond which it sorts in files there."""
        from deltalake import DeltaTable

        self._query = new_session()
        if spill:
            self._query.execute("SET datafusion.runtime.temp_directory = '{}'".format(spill[0].replace("'", "''")))
            self._query.execute(f"SET datafusion.runtime.memory_limit = '{spill[1]}M'")
        for name, table in tables.items():
            view = table.get("view")
            under = f"__masked_{name}" if view else name
            self._query.register(f'"{under}"', DeltaTable(table["uri"], version=table["version"]))
            if view:
                self._query.execute(f'CREATE VIEW "{name}" AS {view}')

    def run(self, sql: str) -> "Result":
        """Begins a query. Raises query_invalid; failed_precondition for a type that no column can have."""
        try:
            return Result(self._query.execute(sql))
        except Exception as error:
            raise named(error) from None


class Result:
    """Rows that come batch by batch."""

    def __init__(self, reader: Any) -> None:
        import pyarrow as pa

        self._reader, self.schema = reader, pa.schema(reader.schema)

    def columns(self, but: str = "") -> tuple[Column, ...]:
        """The columns, without the one called `but`. Raises query_invalid, failed_precondition."""
        found = tuple(column for column in columns_of(self.schema) if column.name != but)
        try:
            check_columns(found)
        except InvalidValue as failure:
            raise Failure(Code.QUERY_INVALID, f"{failure.detail}: name it with AS") from None
        return found

    def batches(self, rows: int = 65_536) -> Iterator[Any]:
        """Arrow tables in order, of about so many rows. Raises query_invalid when the engine cannot compute one."""
        import pyarrow as pa

        waiting, count = list[Any](), 0
        for batch in self._read():
            waiting.append(batch)
            count += batch.num_rows
            if count >= rows:
                yield pa.Table.from_batches(waiting)
                waiting, count = [], 0
        if waiting:
            yield pa.Table.from_batches(waiting)

    def _read(self) -> Iterator[Any]:
        import pyarrow as pa

        reader = iter(self._reader)
        while True:
            try:
                batch = next(reader)
            except StopIteration:
                return
            except Exception as error:
                raise named(error) from None
            yield pa.record_batch(batch)


def named(error: Exception) -> Failure:
    """What the engine says as query_invalid, in one line, without our names and places."""
    if isinstance(error, OSError | MemoryError | Failure):
        raise error
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.endswith("caused by")]
    text = " ".join(lines[:2]) or "it cannot be computed"
    text = re.sub(
        r"^((External|Arrow|Cast|Schema|Compute) error:|Error during planning:|DataFusion error:|\s)*", "", text
    )
    text = re.sub(r"\S*/\S*", "a file", text)
    return Failure(Code.QUERY_INVALID, f"the engine refuses the query: {text[:300]}")
