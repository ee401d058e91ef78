import contextlib
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.data.reading.values import Misfit, guess, parse
from services.data.schema import ColumnType

BOOL, INT64, DOUBLE = ColumnType.BOOL, ColumnType.INT64, ColumnType.DOUBLE
STRING, TIMESTAMP, DATE = ColumnType.STRING, ColumnType.TIMESTAMP, ColumnType.DATE
NOON = datetime(2013, 1, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("raw", "kind", "value"),
    [
        ("42", INT64, 42),
        ("+42", INT64, 42),
        ("-9223372036854775808", INT64, -(2**63)),
        (7, INT64, 7),
        (7.0, INT64, 7),
        ("1.5", DOUBLE, 1.5),
        (".5", DOUBLE, 0.5),
        ("5.", DOUBLE, 5.0),
        ("-1e3", DOUBLE, -1000.0),
        (3, DOUBLE, 3.0),
        ("true", BOOL, True),
        ("FALSE", BOOL, False),
        ("1", BOOL, True),
        (0, BOOL, False),
        (True, BOOL, True),
        ("text", STRING, "text"),
        (1.5, STRING, "1.5"),
        (True, STRING, "true"),
        ("2013-01-01", DATE, date(2013, 1, 1)),
        ("2013-01-01 12:00:00", TIMESTAMP, NOON),
        ("2013-01-01T12:00:00Z", TIMESTAMP, NOON),
        ("2013-01-01t13:00:00+01:00", TIMESTAMP, NOON),
        ("2013-01-01T07:30:00-04:30", TIMESTAMP, NOON),
        ("2013-01-01 12:00:00.123456789", TIMESTAMP, NOON.replace(microsecond=123456)),
    ],
)
def test_a_value_that_fits_is_typed(raw: Any, kind: ColumnType, value: Any) -> None:
    typed = parse(raw, kind)
    assert typed == value
    assert type(typed) is type(value)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ("9223372036854775808", INT64),
        ("1.0", INT64),
        (" 1", INT64),
        ("1\n", INT64),
        ("1_000", INT64),
        ("٣", INT64),
        (1.5, INT64),
        (1e300, INT64),
        (True, INT64),
        ("nan", DOUBLE),
        ("inf", DOUBLE),
        ("1e999", DOUBLE),
        ("0x1p3", DOUBLE),
        ("1,5", DOUBLE),
        (10**400, DOUBLE),
        (float("nan"), DOUBLE),
        (False, DOUBLE),
        ("yes", BOOL),
        (2, BOOL),
        (1.0, BOOL),
        (b"x", STRING),
        ([1], STRING),
        ({"a": 1}, INT64),
        ("2013-02-30", DATE),
        ("2013-1-1", DATE),
        ("0000-01-01", DATE),
        (20130101, DATE),
        ("2013-01-01", TIMESTAMP),
        ("2013-01-01 24:00:00", TIMESTAMP),
        ("2013-01-01 12:00:60", TIMESTAMP),
        ("2013-01-01T12:00:00+24:00", TIMESTAMP),
        ("2013-01-01T12:00:00+01:60", TIMESTAMP),
        ("0001-01-01T00:00:00+01:00", TIMESTAMP),
        (1356998400, TIMESTAMP),
    ],
)
def test_a_value_that_does_not_fit_is_refused(raw: Any, kind: ColumnType) -> None:
    with pytest.raises(Misfit):
        parse(raw, kind)


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_integer_of_64_bits_survives_its_text(number: int) -> None:
    assert parse(str(number), INT64) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_survives_its_text(number: float) -> None:
    assert parse(repr(number), DOUBLE) == number


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_time_survives_its_text(at: datetime) -> None:
    assert parse(at.isoformat(), TIMESTAMP) == at


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.binary()), st.sampled_from(ColumnType))
def test_anything_is_typed_or_refused(raw: Any, kind: ColumnType) -> None:
    with contextlib.suppress(Misfit):
        parse(raw, kind)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2"], INT64),
        (["1", "2.5"], DOUBLE),
        (["true", "false"], BOOL),
        ([True, False], BOOL),
        ([True, 1], STRING),
        (["2013-01-01", "2013-01-02"], DATE),
        (["2013-01-01 00:00:00"], TIMESTAMP),
        (["1", "x"], STRING),
        (["01234", "98765"], STRING),
        (["0", "0.5", "-0"], DOUBLE),
        ([7, 0], INT64),
        ([], STRING),
        ([{"a": 1}], STRING),
    ],
)
def test_the_narrowest_type_that_holds_all_is_guessed(values: list[Any], kind: ColumnType) -> None:
    assert guess(values) is kind
