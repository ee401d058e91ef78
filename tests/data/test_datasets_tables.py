"""The port of tables, by its near adapter."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from services.data.datasets import parquet
from services.data.datasets.domain import LineageNode, NewVersion
from services.data.datasets.quality import ColumnQuality
from services.data.datasets.tables import FolderTables
from services.data.schema import Column, ColumnType
from services.kit.auth import Scope
from services.kit.errors import Code, Failure

SCOPE = Scope("acme")
COLUMNS = (Column("n", ColumnType.INT64),)


@pytest.fixture
async def tables(tmp_path: Path) -> AsyncIterator[FolderTables]:
    made = FolderTables(tmp_path)
    yield made
    await made.close()


async def written(tables: FolderTables, run: str, *numbers: int) -> NewVersion:
    writer = parquet.Writer(await tables.prepare(SCOPE, "flights", run), COLUMNS)
    writer.write(pa.table({"n": numbers}))
    found = (ColumnQuality("n", 0, 1, "1", "1", 1.0, 1, (1, 2**64 - 1)),)
    parents = (LineageNode("source", "db"), LineageNode("rule", "raw", 3))
    return NewVersion(
        "flights", run, writer.close(), COLUMNS, True, {"bad": 1}, {}, (), parents, found, {"cursor": [1, None]}
    )


async def test_what_a_run_wants_is_kept_word_for_word(tables: FolderTables) -> None:
    new = await written(tables, "r1", 1)
    assert await tables.recall(SCOPE, "flights", "r1") is None
    await tables.keep(SCOPE, new)

    assert await tables.recall(SCOPE, "flights", "r1") == new
    assert await tables.recall(Scope("other"), "flights", "r1") is None


async def test_a_run_that_begins_again_finds_an_empty_folder(tables: FolderTables) -> None:
    await tables.keep(SCOPE, await written(tables, "r1", 1))

    assert list((await tables.prepare(SCOPE, "flights", "r1")).iterdir()) == []
    assert await tables.recall(SCOPE, "flights", "r1") is None


async def test_files_of_several_runs_are_read_in_the_order_that_is_asked_for(tables: FolderTables) -> None:
    first, second = await written(tables, "r1", 1, 2), await written(tables, "r2", 3)
    rows = await tables.read(SCOPE, "flights", [*second.files, *first.files], COLUMNS, 0, 10)

    assert [row["n"] for row in rows] == [3, 1, 2]


async def test_the_table_is_a_delta_table(tables: FolderTables) -> None:
    import deltalake

    first = await written(tables, "r1", 1, 2)
    version = await tables.write(SCOPE, first, COLUMNS, first.files)
    table = deltalake.DeltaTable(tables.uri(SCOPE, "flights"), version=version)

    assert table.transaction_version("r1") == 1
    assert [Path(path).parent.name for path in table.file_uris()] == ["r1"]


async def test_what_is_discarded_is_gone(tables: FolderTables) -> None:
    await tables.keep(SCOPE, await written(tables, "r1", 1))
    for _ in range(2):
        await tables.discard(SCOPE, "flights", "r1")

    assert await tables.recall(SCOPE, "flights", "r1") is None


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "a\0", "_delta_log", "x" * 65, "ü"])
async def test_no_name_leaves_its_folder(tables: FolderTables, tmp_path: Path, name: str) -> None:
    new = replace(await written(tables, "r1", 1), run=name)
    for call in (
        tables.prepare(SCOPE, name, "r1"),
        tables.prepare(SCOPE, "flights", name),
        tables.prepare(Scope("acme", name), "flights", "r1"),
        tables.recall(Scope(name), "flights", "r1"),
        tables.discard(SCOPE, "flights", name),
        tables.keep(SCOPE, new),
    ):
        with pytest.raises(Failure) as caught:
            await call
        assert caught.value.code is Code.INVALID_NAME
    assert [path.name for path in tmp_path.iterdir()] == ["acme"]
