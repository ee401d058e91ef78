"""The Delta log of one table: one commit from whatever it holds to what it should hold.

So the same run again finds nothing to do, and what a crashed run left in the log goes out with the next commit.
Imports deltalake when it is used.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from services.data.datasets.domain import WrittenFile
from services.data.schema import Column, ColumnType
from services.kit.disk import sync

# The column of the log that has the partition of each file; no file holds it, and no version shows it.
PARTITION = "__partition"
# Old versions are read for as long as their rows name them, so nothing of the log may expire.
_CONFIGURATION = {"delta.logRetentionDuration": "interval 36500 days"}
_TYPES = {
    ColumnType.BOOL: "boolean",
    ColumnType.INT64: "long",
    ColumnType.DOUBLE: "double",
    ColumnType.STRING: "string",
    ColumnType.TIMESTAMP: "timestamp",
    ColumnType.DATE: "date",
}


def write(table: Path, run: str, columns: Sequence[Column], files: Sequence[WrittenFile]) -> int:
    """Makes the table hold exactly these files and columns; returns the Delta version, which is on the disk."""
    from deltalake import DeltaTable

    wanted = {file.path: file for file in files}
    divided = [PARTITION] if any(file.partition is not None for file in files) else []
    schema = _schema(columns, divided)
    if not DeltaTable.is_deltatable(str(table)):
        _create(table, run, schema, divided, wanted)
        return _synced(table)
    known = DeltaTable(str(table))
    held = _held(known)
    same_columns = known.schema().to_json() == schema.to_json()
    if same_columns and set(held) == set(wanted) and known.transaction_version(run) is not None:
        return _synced(table)
    if known.metadata().partition_columns != divided:
        _divide(table, run, schema, divided)
        known, held, same_columns = DeltaTable(str(table)), {}, True
    if set(held) & set(wanted) and _misfits(known, schema):
        # What a lost run added cannot be taken out of the columns: empty the table first, so that all is written anew.
        _commit(known, f"{run}-emptied", schema, divided, "overwrite", [])
        known, held = DeltaTable(str(table)), {}
    if same_columns or set(held) & set(wanted):
        _add_columns(known, schema)
        gone = [_remove(path, *there) for path, there in held.items() if path not in wanted]
        fresh = _adds(file for file in wanted.values() if file.path not in held)
        _commit(known, run, schema, divided, "append", [*gone, *fresh])
    else:
        _commit(known, run, schema, divided, "overwrite", _adds(wanted.values()))
    return _synced(table)


def _create(table: Path, run: str, schema: Any, divided: list[str], wanted: Mapping[str, WrittenFile]) -> None:
    from deltalake.transaction import create_table_with_add_actions

    create_table_with_add_actions(
        str(table),
        schema,
        _adds(wanted.values()),
        configuration=_CONFIGURATION,
        partition_by=divided,
        commit_properties=_properties(run),
    )


def _divide(table: Path, run: str, schema: Any, divided: list[str]) -> None:
    """Empties the table and has it be partitioned, or no longer: only an empty one can be."""
    import pyarrow as pa
    from deltalake import write_deltalake

    write_deltalake(
        str(table),
        pa.table(pa.schema(schema).empty_table()),
        partition_by=divided,
        mode="overwrite",
        schema_mode="overwrite",
        commit_properties=_properties(f"{run}-divided"),
        post_commithook_properties=_hooks(),
    )


def _commit(known: Any, run: str, schema: Any, divided: list[str], mode: str, actions: list[Any]) -> None:
    known.create_write_transaction(
        actions,
        mode,
        schema,
        partition_by=divided,
        commit_properties=_properties(run),
        post_commithook_properties=_hooks(),
    )


def _hooks() -> Any:
    from deltalake import PostCommitHookProperties

    return PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)


def _properties(run: str) -> Any:
    from deltalake import CommitProperties, Transaction

    return CommitProperties(app_transactions=[Transaction(run, 1)])


def _adds(files: Iterable[WrittenFile]) -> list[Any]:
    from deltalake.transaction import AddAction

    now = int(time.time() * 1000)
    return [
        AddAction(
            file.path,
            file.bytes,
            _values(file.partition),
            now,
            True,
            orjson.dumps({"numRecords": file.rows}).decode(),
        )
        for file in files
    ]


def _remove(path: str, size: int, partition: int | None) -> Any:
    from deltalake.transaction import RemoveAction

    return RemoveAction(path, True, int(time.time() * 1000), size, _values(partition))


def _values(partition: int | None) -> dict[str, str | None]:
    return {} if partition is None else {PARTITION: str(partition)}


def _held(known: Any) -> dict[str, tuple[int, int | None]]:
    """Bytes and partition by path of the files that the newest version of the log names."""
    import pyarrow as pa

    found = pa.table(known.get_add_actions(flatten=True))
    name = f"partition.{PARTITION}"
    partitions = found[name].to_pylist() if name in found.column_names else [None] * found.num_rows
    pairs = zip(found["size_bytes"].to_pylist(), partitions, strict=True)
    return dict(zip(found["path"].to_pylist(), pairs, strict=True))


def _add_columns(known: Any, schema: Any) -> None:
    names = {field.name for field in known.schema().fields}
    if fresh := [field for field in schema.fields if field.name not in names]:
        known.alter.add_columns(fresh)


def _misfits(known: Any, schema: Any) -> bool:
    """True when the log has a column that the version has not, or has with another type."""
    wanted = {field.name: field.type for field in schema.fields}
    return any(wanted.get(field.name) != field.type for field in known.schema().fields)


def _schema(columns: Sequence[Column], divided: list[str]) -> Any:
    from deltalake import Field, Schema
    from deltalake.schema import PrimitiveType

    # Nullable for Delta in any case: a later version may append rows that lack a column.
    fields = [Field(column.name, PrimitiveType(_TYPES[column.type]), nullable=True) for column in columns]
    return Schema([*fields, *(Field(name, PrimitiveType("long"), nullable=True) for name in divided)])


def schema_text(columns: Sequence[Column]) -> str:
    """The schema of columns as a Delta log has it."""
    return str(_schema(columns, []).to_json())


def _synced(table: Path) -> int:
    """The newest version, when its entry in the log is on the disk."""
    from deltalake import DeltaTable

    version = int(DeltaTable(str(table)).version())
    log = table / "_delta_log"
    for path in (log / f"{version:020d}.json", log, table):
        sync(path)
    return version
