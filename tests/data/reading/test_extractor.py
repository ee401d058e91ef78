from datetime import UTC, datetime
from typing import Any

import pytest

from services.data.reading import extractor, paths
from services.data.reading.extractor import Refusal
from services.data.reading.kinds import Compiled, RuleColumn
from services.data.schema import ColumnType

AT = RuleColumn("at", "time", ColumnType.TIMESTAMP)
DELAY = RuleColumn("delay", "delay", ColumnType.DOUBLE, required=True)


def test_fields_are_found_by_their_header() -> None:
    ready = extractor.for_fields(Compiled((AT, DELAY)), ["delay", "other", "time"])
    assert ready.row(["1.5", "x", "2013-01-01 00:00:00"]) == (datetime(2013, 1, 1, tzinfo=UTC), 1.5)


def test_a_field_that_the_header_lacks_is_missing() -> None:
    assert extractor.for_fields(Compiled((AT, DELAY)), ["delay"]).row(["1"]) == (None, 1.0)
    assert extractor.for_fields(Compiled((AT, DELAY)), ["time"]).row([None]) == Refusal("delay is missing")


@pytest.mark.parametrize("text", ["", "NA"])
def test_texts_that_mean_nothing_are_missing(text: str) -> None:
    ready = extractor.for_fields(Compiled((AT, DELAY)), ["time", "delay"], frozenset(["", "NA"]))
    assert ready.row([text, "1"]) == (None, 1.0)
    assert ready.row(["2013-01-01 00:00:00", text]) == Refusal("delay is missing")


def test_a_reason_names_the_rule_and_not_the_value() -> None:
    ready = extractor.for_fields(Compiled((DELAY,)), ["delay"])
    assert ready.row(["secret"]) == Refusal("delay does not fit double")


@pytest.mark.parametrize(
    ("document", "row"),
    [
        ({"delay": 1, "time": None}, (None, 1.0)),
        ({"delay": 2.5, "time": "2013-01-01T00:00:00Z"}, (datetime(2013, 1, 1, tzinfo=UTC), 2.5)),
        ({"time": None}, Refusal("delay is missing")),
        ({"delay": [1]}, Refusal("delay does not fit double")),
        ({"delay": True}, Refusal("delay does not fit double")),
    ],
)
def test_documents_are_taken_apart_by_path(document: dict[str, Any], row: Any) -> None:
    compiled = Compiled((AT, DELAY), paths=(paths.parse("$.time"), paths.parse("delay")))
    assert extractor.for_documents(compiled).row(document) == row


def test_lines_are_matched_as_a_whole() -> None:
    ready = extractor.for_lines(Compiled((DELAY,), pattern=r"d=(?P<delay>[0-9.]*)"))

    assert ready.row("d=1.5") == (1.5,)
    assert ready.row("d=1.5 ") == Refusal("the line does not match")
    assert ready.row("d=") == Refusal("delay is missing")
