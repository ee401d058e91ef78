"""Streams of rows as data frames and files; what breaks off is never taken for the whole."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from aimass import AsyncClient, Client, Failure
from aimass.cli.main import build
from aimass.frames import AsyncFrame, Frame
from tests.sdk.conftest import Door

ROWS = pa.table({"id": pa.array(range(1000)), "town": ["Bergen", None] * 500})
SQL = "SELECT * FROM depots"


def stream(table: pa.Table = ROWS, rows: int = 100) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return bytes(sink.getvalue())


def pieces(content: bytes, size: int = 333) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def broken(content: bytes) -> Iterator[bytes]:
    yield from pieces(content)
    raise Failure("unavailable", "the connection broke")


def test_a_frame_is_an_arrow_table_batches_or_a_pandas_frame() -> None:
    frame = Frame(lambda: pieces(stream()))

    assert frame.to_arrow() == ROWS
    assert [batch.num_rows for batch in frame.batches()] == [100] * 10
    assert list(frame.to_pandas()["id"]) == list(range(1000))
    assert Frame(lambda: pieces(stream(ROWS.slice(0, 0)))).to_arrow().schema == ROWS.schema


def test_a_frame_is_a_polars_frame() -> None:
    polars = pytest.importorskip("polars")

    assert Frame(lambda: pieces(stream())).to_polars().equals(polars.from_arrow(ROWS))


@pytest.mark.parametrize("cut", [0, 100, 8])  # nothing came; a part; all but the mark of the end
def test_what_broke_off_is_a_failure_and_no_file(cut: int, tmp_path: Path) -> None:
    content = stream()[: -cut or None] if cut != 100 else stream()[:9000]
    frame = Frame(lambda: broken(content))

    for read in (frame.to_arrow, lambda: list(frame.batches()), lambda: frame.save(tmp_path / "rows.parquet")):
        with pytest.raises(Failure, match="the connection broke"):
            read()
    assert list(tmp_path.iterdir()) == []


def test_a_file_has_the_format_of_its_name(tmp_path: Path) -> None:
    frame = Frame(lambda: pieces(stream()))

    assert [frame.save(tmp_path / f"rows.{kind}") for kind in ("parquet", "arrow", "csv")] == [1000] * 3
    assert pa.parquet.read_table(tmp_path / "rows.parquet") == ROWS
    assert pa.ipc.open_file(tmp_path / "rows.arrow").read_all() == ROWS
    assert pa.csv.read_csv(tmp_path / "rows.csv").column("id").to_pylist() == list(range(1000))
    with pytest.raises(Failure, match=r"must end in one of \.parquet"):
        frame.save(tmp_path / "rows.xlsx")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_package_that_is_missing_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("pyarrow", "pandas", "polars")]:
        monkeypatch.setitem(sys.modules, name, None)
    frame = Frame(lambda: iter(()))
    for read, text in (
        (frame.to_arrow, r"aimass\[arrow\]"),
        (frame.to_pandas, r"aimass\[pandas\]"),
        (frame.to_polars, r"aimass\[polars\]"),
    ):
        with pytest.raises(Failure, match=text) as caught:
            read()
        assert caught.value.code == "missing_package"


def test_a_client_asks_for_what_its_caller_names(door: Door) -> None:
    door.say(stream())
    with Client(door.url, "k") as client:
        assert client.query(SQL, "depots", max_rows=5).to_arrow() == ROWS
        client.query(SQL, ["depots", "towns"]).to_arrow()
        client.query(SQL, {"a": ("depots", 3), "b": {"data_set": "towns", "tag": "good"}}).to_arrow()
        assert client.rows("depots", 3, columns=["id"]).to_arrow() == ROWS

    asked = [one.json for one in door.asked[:3]]
    assert [one["tables"] for one in asked] == [
        [{"alias": "depots", "data_set": "depots"}],
        [{"alias": name, "data_set": name} for name in ("depots", "towns")],
        [{"alias": "a", "data_set": "depots", "version": 3}, {"alias": "b", "data_set": "towns", "tag": "good"}],
    ]
    assert int(asked[0]["max_rows"]) == 5
    assert (door.asked[3].path, door.asked[3].query) == ("/v1/data-sets/depots/versions/3:stream", {"columns": ["id"]})


async def test_the_same_for_asyncio(door: Door, tmp_path: Path) -> None:
    door.say(stream())
    async with AsyncClient(door.url, "k") as client:
        frame = client.query(SQL, "depots")
        assert await frame.to_arrow() == ROWS
        assert [batch.num_rows async for batch in frame.batches()] == [100] * 10
        assert len(await client.rows("depots").to_pandas()) == 1000
        assert await frame.save(tmp_path / "rows.parquet") == 1000
        async for _ in frame.batches():
            break  # lets the connection go

    async def cut() -> AsyncIterator[bytes]:
        for piece in broken(stream()[:9000]):
            yield piece

    with pytest.raises(Failure, match="the connection broke"):
        await AsyncFrame(cut).to_arrow()


def test_a_command_saves_rows(door: Door, tmp_path: Path) -> None:
    door.say(stream())
    to, env = str(tmp_path / "rows.parquet"), {"AIMASS_URL": door.url, "AIMASS_KEY": "k"}

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(build(), list(arguments), env=env)

    queried = run("query", SQL, "--table", "depots@2", "--table", "b=towns", "--to", to)
    saved = run("rows", "depots", "--version", "4", "--column", "id", "--to", to)
    wrong = run("query", SQL, "--table", "depots@x", "--to", to)

    assert "1,000 rows in" in queried.output
    assert "1,000 rows in" in saved.output
    assert isinstance(wrong.exception, Failure)
    assert [(t["alias"], t["data_set"], t.get("version")) for t in door.asked[0].json["tables"]] == [
        ("depots", "depots", 2),
        ("b", "towns", 0),
    ]
    assert door.asked[1].path == "/v1/data-sets/depots/versions/4:stream"
