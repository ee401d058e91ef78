"""The port of tables, by both adapters."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import deltalake
import pyarrow as pa
import pytest

from services.data.datasets import parquet
from services.data.datasets import tables as tables_module
from services.data.datasets.domain import (
    DataSetVersion,
    LineageNode,
    Location,
    NewVersion,
    Quality,
    WrittenFile,
)
from services.data.datasets.quality import ColumnQuality
from services.data.datasets.tables import FolderTables, RowRange, Tables, open_tables
from services.data.schema import Column, ColumnType
from services.kit.auth import Scope
from services.kit.errors import Code, Failure
from tests.support.storages import ALL, settings, storage

SCOPE = Scope("acme")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = (Column("n", ColumnType.INT64),)


@pytest.fixture(params=ALL)
async def tables(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Tables]:
    stored = storage(tmp_path / "home", settings(request.param))
    made = open_tables(stored, tmp_path / "tables")
    yield made
    await made.close()
    stored.blobs.close()


async def written(tables: Tables, run: str, *numbers: int) -> NewVersion:
    writer = parquet.Writer(await tables.prepare(SCOPE, "flights", run), COLUMNS)
    writer.write(pa.table({"n": numbers}))
    found = (ColumnQuality("n", 0, 1, "1", "1", 1.0, 1, (1, 2**64 - 1)),)
    parents = (LineageNode("source", "db"), LineageNode("rule", "raw", 3))
    return NewVersion(
        "flights", run, writer.close(), COLUMNS, True, {"bad": 1}, {}, (), parents, found, {"cursor": [1, None]}
    )


async def sharing(folder: FolderTables) -> NewVersion:
    """A version of another data set that has the files of one."""
    new = await folder.keep(SCOPE, await written(folder, "r1", 1))
    await folder.prepare(SCOPE, "trial", "r2")
    return replace(new, data_set="trial", run="r2", files=tuple(replace(file, home="flights") for file in new.files))


async def test_a_shared_file_that_is_there_already_is_synced_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, synced = FolderTables(tmp_path), list[Path]()
    shared = await sharing(folder)
    await folder.write(SCOPE, shared, COLUMNS, shared.files)
    monkeypatch.setattr(tables_module, "sync", synced.append)
    await folder.write(SCOPE, shared, COLUMNS, shared.files)  # the first time it may have died
    await folder.close()

    table = tmp_path / "acme" / "default" / "trial"
    assert synced == [table / "r1", table]


async def test_a_shared_file_is_never_taken_for_another_of_its_name(tmp_path: Path) -> None:
    folder = FolderTables(tmp_path)
    shared = await sharing(folder)
    (await folder.prepare(SCOPE, "trial", "r1") / "part-00000.parquet").write_bytes(b"other")
    with pytest.raises(Failure) as caught:
        await folder.write(SCOPE, shared, COLUMNS, shared.files)
    await folder.close()

    assert caught.value.code is Code.FAILED_PRECONDITION


async def test_what_a_run_wants_is_kept_word_for_word(tables: Tables) -> None:
    new = await written(tables, "r1", 1)
    assert await tables.recall(SCOPE, "flights", "r1") is None
    kept = await tables.keep(SCOPE, new)

    assert replace(kept, files=new.files) == new
    assert [replace(file, path="") for file in kept.files] == [replace(file, path="") for file in new.files]
    assert await tables.recall(SCOPE, "flights", "r1") == kept == await tables.keep(SCOPE, kept)
    assert await tables.recall(Scope("other"), "flights", "r1") is None


async def test_a_run_that_begins_again_finds_an_empty_folder(tables: Tables) -> None:
    await tables.keep(SCOPE, await written(tables, "r1", 1))

    assert list((await tables.prepare(SCOPE, "flights", "r1")).iterdir()) == []
    assert await tables.recall(SCOPE, "flights", "r1") is None


async def added(tables: Tables, run: str, *numbers: int, before: Sequence[WrittenFile] = ()) -> Location:
    """A version on top of the files before it."""
    new = await tables.keep(SCOPE, await written(tables, run, *numbers))
    files = (*before, *new.files)
    number = await tables.write(SCOPE, new, COLUMNS, files)
    rows = sum(file.rows for file in files)
    made = DataSetVersion("flights", 1, rows, 0, 0, "", COLUMNS, Quality(rows), (), NOW, run, number, 1)
    return Location(tables.uri(SCOPE, "flights"), number, files, made)


@pytest.mark.parametrize(
    ("start", "count", "found"), [(0, 10, [3, 1, 2]), (1, 1, [1]), (2, 9, [2]), (0, 1, [3]), (3, 5, [])]
)
async def test_rows_of_several_runs_are_read_in_the_order_that_is_asked_for(
    tables: Tables, start: int, count: int, found: list[int]
) -> None:
    first, second = await added(tables, "r1", 1, 2), await added(tables, "r2", 3)
    rows = await tables.read(SCOPE, "flights", RowRange([*second.files, *first.files], COLUMNS, start, count))

    assert [row["n"] for row in rows] == found


async def test_a_version_is_a_delta_table_of_this_machine(tables: Tables) -> None:
    first = await added(tables, "r1", 1, 2)
    await added(tables, "r2", 3, before=first.files)
    async with tables.local(SCOPE, first) as here:
        table = deltalake.DeltaTable(here.uri, version=here.delta_version)
        found = deltalake.QueryBuilder().register("t", table).execute("SELECT n FROM t ORDER BY n").read_all()

        assert table.transaction_version("r1") == 1
        assert pa.table(found).column("n").to_pylist() == [1, 2]
        assert all((Path(here.uri) / file.path).is_file() for file in here.files)


async def test_the_same_run_is_in_the_log_once(tables: Tables) -> None:
    first = await added(tables, "r1", 1)
    new = await tables.recall(SCOPE, "flights", "r1")
    assert new

    assert await tables.write(SCOPE, new, COLUMNS, first.files) == first.delta_version


async def test_every_version_has_its_number_in_the_log(tables: Tables) -> None:
    files: tuple[WrittenFile, ...] = ()
    for number in range(3):
        location = await added(tables, f"r{number}", number, before=files)
        files = location.files
        assert location.delta_version == number


async def test_what_is_discarded_is_gone(tables: Tables) -> None:
    await tables.keep(SCOPE, await written(tables, "r1", 1))
    for _ in range(2):
        await tables.discard(SCOPE, "flights", "r1")

    assert await tables.recall(SCOPE, "flights", "r1") is None


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "a\0", "_delta_log", "x" * 65, "ü"])
async def test_no_name_leaves_its_place(tables: Tables, tmp_path: Path, name: str) -> None:
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
    (folder,) = tmp_path.rglob("tables")
    assert [path.name for path in folder.iterdir()] == ["acme"]
