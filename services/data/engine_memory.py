"""Tables of an engine in memory: decoded columns of versions, which queries read instead of the files. For children.

A table is what the engine reads from the files of a version, batch by batch and in the same order, so a query reads the
same rows in the same order from either. Imported when it is used.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from services.data.engine import Result, named, new_session
from services.data.schema import quoted
from services.kit.child import Json

_BYTES = re.compile(r"Bytes=(?:Exact|Inexact)\((\d+)\)")
_SOURCE = "__source"


class Memory:
    """The tables that are held, by key."""

    def __init__(self) -> None:
        self._session = new_session()
        self._session.execute("SET datafusion.explain.show_statistics = true")
        self._held: dict[str, tuple[frozenset[str], int]] = {}

    def held(self) -> dict[str, tuple[list[str], int]]:
        """Columns and bytes by key."""
        return {key: (sorted(columns), size) for key, (columns, size) in self._held.items()}

    @property
    def bytes(self) -> int:
        """Of all tables."""
        return sum(size for _, size in self._held.values())

    def has(self, key: str, columns: Collection[str]) -> bool:
        """Whether these columns of a table are held."""
        return key in self._held and self._held[key][0] >= set(columns)

    def load(self, key: str, table: Json, columns: Collection[str], room: int) -> int:
        """Reads columns of a version, `{uri, version}`, beside those of it that are held already; the bytes they take.

        Where they do not fit into so many bytes with all others, none is held; they are not even read where their files
        say so.
        """
        from deltalake import DeltaTable

        wanted = frozenset(columns) | (self._held[key][0] if key in self._held else frozenset())
        self.drop([key])
        source = DeltaTable(table["uri"], version=table["version"])
        if (size := _in_files(source, wanted)) > room - self.bytes:
            return size
        chosen = [quoted(field.name) for field in source.schema().fields if field.name in wanted]
        self._session.register(quoted(_SOURCE), source)
        try:
            self._do(f"CREATE TABLE {quoted(name_of(key))} AS SELECT {', '.join(chosen)} FROM {quoted(_SOURCE)}")
        finally:
            self._do(f"DROP TABLE {quoted(_SOURCE)}")
        size, before = self._size(key), self.bytes
        self._held[key] = wanted, size
        if size > room - before:
            self.drop([key])
        return size

    def drop(self, keys: Collection[str]) -> None:
        """Forgets tables; those that are not held are passed over."""
        for key in keys:
            if self._held.pop(key, None):
                self._do(f"DROP TABLE {quoted(name_of(key))}")

    @contextmanager
    def views(self, tables: Mapping[str, str]) -> Iterator[None]:
        """Has queries see what these SELECTs of tables that are held make, by name, while the context lasts."""
        made = list[str]()
        try:
            for name, text in tables.items():
                self._do(f"CREATE OR REPLACE VIEW {quoted(name)} AS {text}")
                made.append(name)
            yield
        finally:
            for name in made:
                self._do(f"DROP VIEW {quoted(name)}")

    def run(self, sql: str) -> Result:
        """As `Engine.run`, over the views that there are."""
        try:
            return Result(self._session.execute(sql))
        except Exception as error:
            raise named(error) from None

    def _do(self, sql: str) -> None:
        try:
            self._session.execute(sql).read_all()
        except Exception as error:
            raise named(error) from None

    def _size(self, key: str) -> int:
        import pyarrow as pa

        plan: Any = pa.table(self._session.execute(f"EXPLAIN SELECT * FROM {quoted(name_of(key))}").read_all())
        found = _BYTES.search(plan.column("plan")[-1].as_py())
        return int(found[1]) if found else 0


def name_of(key: str) -> str:
    """What a table that is held is called in SQL. No caller's table is: theirs have no underscores."""
    return f"__hot_{key}"


def _in_files(source: Any, names: Collection[str]) -> int:
    """Bytes of columns of a Delta table before they are compressed: about what they take in memory, or less."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = 0
    for uri in source.file_uris():
        try:
            file = pq.read_metadata(uri)
        except (OSError, pa.ArrowInvalid):
            continue  # the engine says what is wrong with it
        places = [place for place, name in enumerate(file.schema.names) if name in names]
        groups = [file.row_group(number) for number in range(file.num_row_groups)]
        found += sum(group.column(place).total_uncompressed_size for group in groups for place in places)
    return found
