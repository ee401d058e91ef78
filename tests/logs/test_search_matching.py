import pytest

from services.logs.domain import Record
from services.logs.search.domain import matches, parse
from services.logs.search.domain.query import number, words_of
from services.logs.search.service import matcher
from tests.logs.conftest import ACME
from tests.logs.records import record

ONE = record(
    1,
    kind="span",
    severity="ERROR",
    service="registry",
    name="aimass.v1.Models/GetModel",
    text="Model late: not found (again)",
    request_id="r-1",
    model="late",
    version=3,
    status="404",
    duration_ms=12.5,
    attributes={"rows": 7, "share": 0.25, "cold": True, "who": "a b", "host.name": "web-1"},
)
YES = """
late
LATE
model late
"model late"
"late not found"
fou*
NOT absent
late AND NOT absent
absent OR late
(absent OR late) AND (found OR absent)
kind:span
severity:error
severity:ERROR
name:aimass.v1.Models/GetModel
name:aimass.v1.*
request_id:r-1
version:3
version:3.0
version:>=3
version:<4
version:[1 TO 3]
version:[* TO 3]
version:[3 TO *]
status:404
status:>399
status:[400 TO 499]
duration_ms:>12
duration_ms:12.5
duration_ms:[12.5 TO 12.5]
attributes.rows:7
attributes.rows:>6.5
attributes.share:<0.3
attributes.cold:true
attributes.who:"a b"
attributes.host.name:web*
NOT attributes.absent:x
NOT NOT late
model:late AND version:3 AND (status:404 OR status:500)
"""
NO = """
lat
"late model"
"model not"
absent
kind:spa
kind:SPAN
model:Late
version:>3
version:<3
version:4
version:[4 TO *]
status:>404
status:not_found
trace_id:x
duration_ms:<12.5
duration_ms:>12.5
attributes.rows:07
attributes.rows:"7 "
attributes.absent:>0
attributes.who:a
attributes.who:>0
NOT late
late AND absent
absent OR (late AND NOT found)
"""


@pytest.mark.parametrize("text", YES.strip().splitlines())
def test_what_is_asked_for_matches(text: str) -> None:
    assert matches(parse(text), ONE)


@pytest.mark.parametrize("text", NO.strip().splitlines())
def test_what_is_not_asked_for_does_not(text: str) -> None:
    assert not matches(parse(text), ONE)


@pytest.mark.parametrize(
    ("query", "empty"),
    [
        ("version:[* TO *]", False),
        ("duration_ms:[* TO *]", False),
        ("NOT version:>0", True),
        ("NOT duration_ms:>0", True),
    ],
)
def test_a_record_that_lacks_a_field_has_no_value_of_it(query: str, empty: bool) -> None:
    assert matches(parse(query), record(0)) is empty


def test_a_filter_sees_its_own_tenant_only() -> None:
    his = Record("r", "rival", "default", 0, "log", text="late")
    elsewhere = Record("r", "acme", "other", 0, "log", text="late")

    assert matcher(ACME, "late")([his, ONE, elsewhere]) == [ONE]


def test_words_are_letters_digits_and_underscores() -> None:
    assert words_of("Über-maß: arr_delay=15,5\n") == ["über", "maß", "arr_delay", "15", "5"]
    assert words_of("x" * 100) == ["x" * 64]
    assert words_of("…!") == []


@pytest.mark.parametrize(
    ("text", "value"), [("5", 5.0), ("-0", 0.0), ("1e3", 1000.0), ("", None), ("inf", None), ("nan", None), ("x", None)]
)
def test_a_number_is_finite(text: str, value: float | None) -> None:
    assert number(text) == value
