"""Typing by whole columns: what `Extractor.row` does, for the records that are well behaved, at the speed of Arrow.

A column is taken only when its values are written in the plainest way and all fit. Otherwise the batch is halved and
halved again, so that a refused record costs the slow path for its neighbours only.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from services.data.arrow import arrow_type
from services.data.reading.arrays import Unfit
from services.data.reading.extractor import Extractor, Refusal
from services.data.reading.kinds import RuleColumn
from services.data.reading.plain import Fields
from services.data.reading.values import EXACT
from services.data.schema import ColumnType

_SMALL = 64  # records; below this the slow path is as fast
_PIECES = 8
_TOGETHER = 32_768  # rows of records whose arrays are taken apart
Spread = Callable[[Any], Sequence[Sequence[Any]]]


@dataclass
class Typed:
    """Columns of typed rows in pieces, and the records that gave none: place in the batch, reason."""

    pieces: list[list[Any]] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)


class _Slow(Exception):
    """The fast path does not know these values."""


def extract(extractor: Extractor, records: Sequence[Any], to: Typed | None = None, first: int = 0) -> Typed:
    """Arrow arrays of all rows that the records give, in their order."""
    typed = to if to is not None else Typed()
    if not records:
        return typed
    if extractor.spread is not None:
        return _spread(extractor, extractor.spread, records, typed)
    try:
        if len(records) <= _SMALL:
            raise _Slow
        typed.pieces.append(_fast(extractor, records))
    except _Slow:
        if len(records) <= _SMALL:
            _slow(extractor, records, typed, first)
            return typed
        size = max(_SMALL, len(records) // _PIECES)
        for begin in range(0, len(records), size):
            extract(extractor, records[begin : begin + size], typed, first + begin)
    return typed


def _spread(extractor: Extractor, spread: Spread, records: Sequence[Any], typed: Typed) -> Typed:
    """The rows of records whose arrays are taken apart, as many together as records are elsewhere."""
    plain = replace(extractor, spread=None)
    rows, owners = list[Sequence[Any]](), list[int]()
    for place, record in enumerate(records):
        try:
            found = spread(record)
        except Unfit as unfit:
            typed.refused.append((place, unfit.reason))
            continue
        if len(rows) + len(found) > _TOGETHER:
            _typed_whole(plain, rows, owners, typed)
            rows, owners = [], []
        rows += found
        owners += [place] * len(found)
    _typed_whole(plain, rows, owners, typed)
    typed.refused.sort()
    return typed


def _typed_whole(extractor: Extractor, rows: Sequence[Any], owners: Sequence[int], typed: Typed) -> None:
    """Rows of whole records: those of a record of which one is refused are not taken."""
    made = extract(extractor, rows)
    if made.refused:
        reasons = dict[int, str]()
        for row, reason in made.refused:
            reasons.setdefault(owners[row], reason)
        typed.refused += reasons.items()
        made = extract(extractor, [row for row, owner in zip(rows, owners, strict=True) if owner not in reasons])
    typed.pieces += made.pieces


def _slow(extractor: Extractor, records: Sequence[Any], typed: Typed, first: int) -> None:
    import pyarrow as pa

    rows = []
    for place, record in enumerate(records, first):
        row = extractor.row(record)
        if isinstance(row, Refusal):
            typed.refused.append((place, row.reason))
        else:
            rows.append(row)
    if rows:
        values = zip(*rows, strict=True)
        kinds = [arrow_type(column.type) for column in extractor.columns]
        typed.pieces.append([pa.array(column, kind) for column, kind in zip(values, kinds, strict=True)])


def _fast(extractor: Extractor, records: Sequence[Any]) -> list[Any]:
    if isinstance(records, Fields) and extractor.places is not None:
        nothing = [None] * len(records)
        found = [nothing if place is None else records.columns[place] for place in extractor.places]
        return _columns(found, extractor)
    try:
        picked = [extractor.pick(record) for record in records]
    except Unfit:
        raise _Slow from None
    if None in picked:
        raise _Slow
    return _columns(zip(*picked, strict=True), extractor)


def _columns(columns: Iterable[Any], extractor: Extractor) -> list[Any]:
    return [_column(values, column, extractor.nulls) for values, column in zip(columns, extractor.columns, strict=True)]


def _column(values: Any, column: RuleColumn, nulls: frozenset[str]) -> Any:
    import pyarrow as pa

    try:
        raw = values if isinstance(values, pa.Array) else pa.array(values)
        if raw.null_count == len(raw):
            typed = pa.nulls(len(raw), arrow_type(column.type))
        elif pa.types.is_string(raw.type):
            typed = _TEXTS[column.type](_without(raw, nulls))
        else:
            typed = _native(raw, column.type)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        raise _Slow from None
    if column.required and typed.null_count:
        raise _Slow
    return typed


def _without(raw: Any, nulls: frozenset[str]) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not nulls:
        return raw
    return pc.if_else(pc.is_in(raw, pa.array(sorted(nulls), pa.string())), None, raw)


def _native(raw: Any, kind: ColumnType) -> Any:
    """Numbers and truths as a database or JSON has them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    given = (pa.types.is_boolean(raw.type), pa.types.is_int64(raw.type), pa.types.is_float64(raw.type))
    match given, kind:
        case ((True, _, _), ColumnType.BOOL) | ((_, True, _), ColumnType.INT64):
            return raw
        case (_, True, _), ColumnType.DOUBLE:
            return raw.cast(pa.float64())
        case (_, _, True), ColumnType.DOUBLE:
            return _all(raw, pc.is_finite)
        case (_, _, True), ColumnType.INT64:
            whole = _all(
                raw, lambda values: pc.and_(pc.equal(pc.floor(values), values), pc.less_equal(pc.abs(values), EXACT))
            )
            return whole.cast(pa.int64())
    raise _Slow


def _all(values: Any, test: Callable[[Any], Any]) -> Any:
    import pyarrow.compute as pc

    if pc.all(test(values)).as_py() is False:
        raise _Slow
    return values


def _matching(values: Any, pattern: str) -> Any:
    import pyarrow.compute as pc

    return _all(values, lambda texts: pc.match_substring_regex(texts, pattern))


def _integers(values: Any) -> Any:
    import pyarrow.compute as pc

    # Much faster than a pattern, and true of most.
    digits = pc.all(pc.ascii_is_decimal(pc.ascii_ltrim(values, "-"))).as_py()
    if digits and (pc.max(pc.binary_length(values)).as_py() or 0) < 19:
        return values.cast(arrow_type(ColumnType.INT64))
    return _matching(values, "^-?[0-9]{1,19}$").cast(arrow_type(ColumnType.INT64))


def _doubles(values: Any) -> Any:
    import pyarrow.compute as pc

    plain = _matching(values, r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$")
    return _all(plain.cast(arrow_type(ColumnType.DOUBLE)), pc.is_finite)


def _bools(values: Any) -> Any:
    import pyarrow.compute as pc

    return pc.equal(_matching(values, "^(true|false)$"), "true")


def _dates(values: Any) -> Any:
    return _matching(values, "^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}$").cast(arrow_type(ColumnType.DATE))


def _timestamps(values: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = _matching(values, r"^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}Z?$")
    return pc.assume_timezone(pc.utf8_rtrim(plain, "Z").cast(pa.timestamp("us")), "UTC")


_TEXTS: dict[ColumnType, Callable[[Any], Any]] = {
    ColumnType.BOOL: _bools,
    ColumnType.INT64: _integers,
    ColumnType.DOUBLE: _doubles,
    ColumnType.STRING: lambda values: values,
    ColumnType.TIMESTAMP: _timestamps,
    ColumnType.DATE: _dates,
}
