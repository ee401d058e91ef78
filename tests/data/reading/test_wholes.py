"""JSON documents and Parquet files, which are read as a whole."""

import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from services.data.reading import wholes
from services.data.reading.wholes import Documents, Rows, Unfinished
from services.kit.errors import Code, Failure
from tests.data.packing import parquet


def documents(text: str, number: int = 0, digest: str = "") -> Documents:
    return Documents(io.BytesIO(text.encode()), number, digest)


def everything(reader: Documents | Rows, step: int = 2) -> tuple[list[Any], list[str]]:
    records, broken = list[Any](), list[str]()
    while (batch := reader.read(step)).size:
        records += batch.records
        broken += [reason for _, _, reason in batch.broken]
    return records, broken


@pytest.mark.parametrize(
    ("text", "records", "broken"),
    [
        ('[{"a": 1}, {"a": 2}, {"a": 3}]', [{"a": 1}, {"a": 2}, {"a": 3}], []),
        ('\ufeff{\n "a": 1\n}\n', [{"a": 1}], []),
        ('[{"a": 1}, 7, {"a": 3}]', [{"a": 1}, {"a": 3}], ["the element is not a JSON object"]),
        ('[{"a": 1},', [], ["the file is not a JSON document"]),
        ("", [], []),
        ("[]", [], []),
    ],
)
def test_a_document_is_its_elements(text: str, records: list[Any], broken: list[str]) -> None:
    assert everything(documents(text)) == (records, broken)


def test_a_document_that_grew_goes_on_and_one_that_is_another_begins_again() -> None:
    first = documents('[{"a": 1}, {"a": 2}]')
    everything(first)
    grown = documents('[ {"a": 1}, {"a": 2}, {"a": 3} ]', first.number, first.digest)
    assert (everything(grown)[0], grown.replaced, grown.number) == ([{"a": 3}], False, 3)
    for text in ('[{"a": 9}, {"a": 2}]', '[{"a": 1}]'):
        other = documents(text, first.number, first.digest)
        assert (everything(other)[0], other.replaced) == (json.loads(text), True)


def test_a_document_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wholes, "_LONGEST", 10)
    with pytest.raises(Failure, match="write larger ones as JSON lines") as caught:
        documents('[{"a": 1}]   ')
    assert caught.value.code is Code.LIMIT_EXCEEDED


def test_rows_have_the_values_that_json_has() -> None:
    at = datetime(2013, 1, 1, 10, tzinfo=UTC)
    columns = {
        "id": pa.array([2**63, 1], pa.uint64()),
        "x": [1.5, None],
        "kind": pa.array(["a", "b"]).dictionary_encode(),
        "at": pa.array([at, None], pa.timestamp("ns", "Europe/Berlin")),
        "local": pa.array([at.replace(tzinfo=None), None], pa.timestamp("ms")),
        "day": [date(2013, 1, 2), None],
        "price": [Decimal("1.50"), None],
        "raw": [b"\x01\xff", None],
        "tags": [["a", "b"], None],
        "place": [{"lat": 1.5}, None],
        "on": [True, None],
    }
    reader = Rows(io.BytesIO(parquet(columns)))

    assert list(reader.fields) == list(columns)
    assert everything(reader)[0] == [
        (
            2**63,
            1.5,
            "a",
            "2013-01-01 10:00:00.000000Z",
            "2013-01-01 10:00:00.000000",
            "2013-01-02",
            "1.50",
            "01ff",
            '["a", "b"]',
            '{"lat": 1.5}',
            True,
        ),
        (1, *[None if name != "kind" else "b" for name in list(columns)[1:]]),
    ]


def test_rows_come_from_all_groups_in_their_order() -> None:
    reader = Rows(io.BytesIO(parquet({"id": list(range(10_000))}, row_group_size=3000)))
    assert [row[0] for row in everything(reader, 999)[0]] == list(range(10_000))


def test_a_file_without_its_end_waits_and_a_damaged_one_says_so() -> None:
    data = parquet({"id": list(range(1000))})
    with pytest.raises(Unfinished, match="not complete"):
        Rows(io.BytesIO(data[:-3]))
    for spoilt in (data[:-8] + b"\xff\xff\xff\x7fPAR1", b"PAR1" + bytes(900) + data[904:]):
        with pytest.raises(Failure) as caught:
            everything(Rows(io.BytesIO(spoilt)))
        assert caught.value.code is Code.FAILED_PRECONDITION
        assert not isinstance(caught.value, Unfinished)


def test_a_file_that_lies_about_its_rows_is_refused() -> None:
    data = parquet({"id": [1, 2, 3]}, compression="none")
    begin = data.index(b"\x26", len(data) // 2)
    for at in range(begin, len(data) - 8):
        lie = data[:at] + bytes([data[at] ^ 0x7E]) + data[at + 1 :]
        try:
            assert len(everything(Rows(io.BytesIO(lie)))[0]) <= 3
        except Failure as failure:
            assert failure.code is Code.FAILED_PRECONDITION
