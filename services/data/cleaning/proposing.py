"""A recipe for rows that nobody described: each step with the reason for it. For children.

What is not certain is not proposed: days and months that may be either, units that may be of two dimensions.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain as joined
from typing import Any

from services.data.cleaning.chain import Chain, Source
from services.data.cleaning.converting import parser
from services.data.cleaning.filling import folded as folded_missing
from services.data.cleaning.kinds import (
    FALSE_TEXTS,
    MISSING_TEXTS,
    TRUE_TEXTS,
    Action,
    Convert,
    Duplicates,
    FillMissing,
    FindMissing,
    Kind,
    Method,
    OfColumns,
    Outliers,
    mark_of,
)
from services.data.cleaning.kinds_values import Encoding, Spellings, Units
from services.data.cleaning.measuring import measure
from services.data.cleaning.operators import column_of, finite, missing
from services.data.cleaning.outlying import bounds
from services.data.cleaning.steps import Step, to_json
from services.data.cleaning.texts import repaired, unified
from services.data.cleaning.units import DIMENSIONS, known_as
from services.data.reading.values import Misfit, keeps
from services.data.schema import Column, ColumnType
from services.kit.child import Child, Json

_FITS = 0.95  # of the texts that are there
_LEAST = 5  # texts that say anything
_FEW, _SHARE = 50, 0.05  # different values of a column of categories
_RANGES, _RARE = 3.0, 0.01  # interquartile ranges, and how many values may lie beyond
_GAPS = 0.2  # of the values that may be missing for a median
_MAPPED = 1_000
_STEPS, _COLUMNS, _REASONS = 50, 200, 20  # of a recipe, of a step, and of a step that are said
_DAYS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y", "%Y%m%d")
_TIMES = ("", " %H:%M", " %H:%M:%S")
_SIGNS = (("", ""), (",", ""), (",", "."), (",", " "), ("", ","), ("", "'"))
Counts = Mapping[str, int]
Reasoned = tuple[Kind, str]


def main(request: Json, child: Child) -> Json:
    """`{files, columns, propose}` to `{steps, rows}`."""
    columns = tuple(Column(name, ColumnType(kind), bool(null)) for name, kind, null in request["columns"])
    source = Source([(str(path), int(rows)) for path, rows in request["files"]], columns, request["propose"])
    texts = {column.name: _counts(source, column) for column in columns if column.type is ColumnType.STRING}
    found = together(_of_texts(texts))[:_STEPS]
    found = [*found, *together(_of_numbers(source, columns, found, child))][:_STEPS]
    steps = [to_json(Step(f"step-{place}", kind)) for place, (kind, _) in enumerate(found, 1)]
    reasons = [reason for _, reason in found]
    return {
        "rows": source.rows,
        "steps": [{"step": step, "reason": reason} for step, reason in zip(steps, reasons, strict=True)],
    }


def together(found: Iterable[Reasoned]) -> list[Reasoned]:
    """Steps as recipes take them: one for all columns that the same is done to, several for very many."""
    alike = dict[Kind, list[Reasoned]]()
    for kind, reason in found:
        alike.setdefault(replace(kind, columns=()) if isinstance(kind, OfColumns) else kind, []).append((kind, reason))
    made = list[Reasoned]()
    for each in alike.values():
        names = [name for kind, _ in each if isinstance(kind, OfColumns) for name in kind.columns]
        more = [f"and {len(each) - _REASONS} more columns"] if len(each) > _REASONS else []
        said = "; ".join([reason for _, reason in each[:_REASONS]] + more)
        kind = each[0][0]
        for at in range(0, len(names) or 1, _COLUMNS):
            part = tuple(names[at : at + _COLUMNS])
            made.append((replace(kind, columns=part) if isinstance(kind, OfColumns) else kind, said))
    return made


def _counts(source: Source, column: Column) -> Counts:
    import pyarrow.compute as pc

    counts = pc.value_counts(column_of(source, column).drop_null())
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))


def _of_texts(texts: Mapping[str, Counts]) -> Iterator[Reasoned]:
    """Encodings first, then what is missing, then what the texts of each column are."""
    broken = {name: sum(n for text, n in counts.items() if repaired(text) != text) for name, counts in texts.items()}
    if wrong := {name: count for name, count in broken.items() if count}:
        yield Encoding(tuple(wrong)), f"texts in UTF-8 were read in another encoding: {_said(wrong)}"
    fixed = {name: _again(counts, repaired) for name, counts in texts.items()}
    absent = {name: sum(n for text, n in counts.items() if _absent(text)) for name, counts in fixed.items()}
    if empty := {name: count for name, count in absent.items() if count}:
        yield FindMissing(tuple(empty)), f"texts mean that a value is missing: {_said(empty)}"
    for name, counts in fixed.items():
        there = _again({text: n for text, n in counts.items() if not _absent(text)}, str.strip)
        if sum(there.values()) >= _LEAST:
            yield from _of_column(name, there, counts)


def _again(counts: Counts, change: Callable[[str], str]) -> Counts:
    found = Counter[str]()
    for text, count in counts.items():
        found[change(text)] += count
    return found


def _absent(text: str) -> bool:
    return folded_missing(text) in MISSING_TEXTS


def _said(counts: Counts) -> str:
    return ", ".join(f"{count} of {name[:60]}" for name, count in list(counts.items())[:20])


def _of_column(name: str, there: Counts, counts: Counts) -> Iterator[Reasoned]:
    total = sum(there.values())
    for kind in joined(_types(name, there), _measures(name, there)):
        fits = _fitting(kind, there)
        if fits >= _FITS * total:
            what = f"numbers in {kind.unit}" if isinstance(kind, Units) else _words(kind)
            rest = f"; rows that are quarantined: {total - fits}" if fits < total else ""
            yield kind, f"{fits} of {total} texts of {name[:60]} are {what}{rest}"
            return
    if 1 < len(there) <= max(_FEW, _SHARE * total):
        yield from _categories(name, {text: count for text, count in counts.items() if not _absent(text)})


def _words(kind: Kind) -> str:
    assert isinstance(kind, Convert)
    signs = f" with the decimal sign {kind.decimal_sign}" if kind.decimal_sign else ""
    signs += f" and {kind.thousands_sign!r} between thousands" if kind.thousands_sign else ""
    return f"{kind.type} values{signs}{' as ' + kind.formats[0] if kind.formats else ''}"


def _fitting(kind: Kind, there: Counts) -> int:
    """How many texts are what the step makes of them; 0 where these are too few to propose it."""
    read: Any = parser(kind) if isinstance(kind, Convert) else None
    total = found = sum(there.values())
    for text, count in there.items():
        try:
            value = read(text) if read else measure(text, kind)  # type: ignore[arg-type]
        except (Misfit, ValueError, OverflowError):
            value = None
        found -= count if value is None else 0
        if found < _FITS * total:
            return 0
    return found


def _types(name: str, there: Counts) -> Iterator[Convert]:
    """What the texts may be, the most special first; codes with leading zeros are none."""
    folded = {text.casefold() for text in there}
    if folded <= {*TRUE_TEXTS, *FALSE_TEXTS} - {"0", "1"}:
        yield Convert((name,), ColumnType.BOOL)
    coded = sum(n for text, n in there.items() if text.lstrip("+-").startswith("0") and not _keeps(text))
    if not coded:
        yield Convert((name,), ColumnType.INT64)
        each = [Convert((name,), ColumnType.DOUBLE, *signs) for signs in _SIGNS]
        yield max(each, key=lambda kind: _fitting(kind, there))
    yield from _dates(name, there)


def _keeps(text: str) -> bool:
    """Whether a text that begins with a zero is a number all the same: 0, 0,5."""
    return keeps(text.replace(",", "."), ColumnType.DOUBLE)


def _dates(name: str, there: Counts) -> Iterator[Convert]:
    yield Convert((name,), ColumnType.DATE)
    yield Convert((name,), ColumnType.TIMESTAMP)
    total = sum(there.values())
    for time in _TIMES:
        type_ = ColumnType.TIMESTAMP if time else ColumnType.DATE
        each = [Convert((name,), type_, formats=(day + time,)) for day in _DAYS]
        fits = [kind for kind in each if _fitting(kind, there) >= _FITS * total]
        if len(fits) == 1:
            yield fits[0]


def _measures(name: str, there: Counts) -> Iterator[Units]:
    """Of the one dimension that the units are of, in the unit that most of them have."""
    total = sum(there.values())
    words = Counter[str]()
    for text, count in there.items():
        words[text.lstrip("+-0123456789., ")] += count
    found = list[Units]()
    for dimension in DIMENSIONS:
        units = [unit for word, _ in words.most_common() if word and (unit := known_as(word, dimension))]
        if units:
            each = [Units((name,), units[0], decimal_sign=sign) for sign in ("", ",")]
            best = max(each, key=lambda kind: _fitting(kind, there))
            found += [best] if _fitting(best, there) >= _FITS * total else []
    if len(found) == 1:
        yield found[0]


def _categories(name: str, counts: Counts) -> Iterator[Reasoned]:
    found, conflicts = unified(counts)
    apart = "".join(f"; {one!r} and {other!r} are both frequent and stay apart" for one, other in conflicts[:3])
    if found and len(found) <= _MAPPED:
        merged = sum(counts[one] for one in found)
        reason = f"{merged} texts of {name[:60]} are other spellings of frequent ones{apart}"
        yield Spellings((name,), tuple(found.items()), only_mapping=True), reason


def _of_numbers(source: Source, columns: tuple[Column, ...], found: list[Reasoned], child: Child) -> Iterator[Reasoned]:
    """Of the rows as the steps that were found leave them: duplicates, outliers and gaps."""
    import pyarrow as pa

    steps = [Step(f"step-{place}", kind) for place, (kind, _) in enumerate([*found, (Duplicates(), "")])]
    chain = Chain(source, columns, steps, child)
    tables = list(chain.rows(None, None))
    if twice := chain.counts()["duplicates"]:
        yield Duplicates(), f"rows that are equal to another in all columns: {twice}"
    gaps, marks = dict[str, int](), {name.lower() for name in chain.columns}
    rows: Any = pa.concat_tables(tables) if tables else None
    for column in chain.columns.values() if rows else ():
        if column.type not in (ColumnType.INT64, ColumnType.DOUBLE):
            continue
        values = rows.column(column.name)
        if mark_of(column.name).lower() not in marks:
            yield from _far(column.name, finite(values))
        if 0 < (count := int(missing(values).to_numpy(zero_copy_only=False).sum())) <= _GAPS * len(values):
            gaps[column.name] = count
    if gaps:
        reason = f"values are missing: {_said(gaps)}; a median is little moved by far values"
        yield FillMissing(tuple(gaps), Method.MEDIAN), reason


def _far(name: str, numbers: Any) -> Iterator[Reasoned]:
    limits = bounds(numbers, Method.IQR, _RANGES)
    if limits is None or len(mark_of(name)) > 128:
        return
    count = int(((numbers < limits[0]) | (numbers > limits[1])).sum())
    if 0 < count <= max(_RARE * len(numbers), 1):
        reason = f"{count} of {len(numbers)} values of {name[:60]} are {_RANGES:g} interquartile ranges from the others"
        yield Outliers((name,), Method.IQR, Action.MARK, _RANGES), reason
