"""What a version of a rule makes of a sample: rows, refusals, and what each column finds. Pure."""

from collections.abc import Sequence
from typing import Any

from services.data.reading.arrays import Unfit
from services.data.reading.extractor import Extractor, Refusal
from services.data.reading.kinds import Compiled
from services.data.reading.samples import Tried
from services.data.reading.values import Misfit, parse
from services.data.rules.domain import ColumnTrial, Refused, Trial

_SHOWN = 20


def tried(compiled: Compiled, tries: Sequence[Tried]) -> Trial:
    """The coverage of the rule and of each of its columns."""
    accepted, looked, rows, refused = 0, 0, list[dict[str, object]](), list[Refused]()
    columns = [ColumnTrial(column.name) for column in compiled.columns]
    names = [column.name for column in compiled.columns]
    for one in tries:
        found = Refusal(one.reason) if one.reason else one.extractor.rows(one.record)
        looked += 1 if one.reason else _look(one.extractor, one.record, columns)
        if not isinstance(found, Refusal):
            accepted += 1
            rows += [dict(zip(names, row, strict=True)) for row in found[: _SHOWN - len(rows)]]
        elif len(refused) < _SHOWN:
            refused.append(Refused(one.shown(), found.reason))
    return Trial(len(tries), accepted, tuple(rows), tuple(refused), compiled, tuple(columns), looked)


def _look(extractor: Extractor, record: Any, columns: Sequence[ColumnTrial]) -> int:
    """Counts the values of a record that has the rule's form, each for itself; how many rows these are, or would be."""
    try:
        found = extractor.raws(record)
    except Unfit:
        return 1
    for raw in found:
        _count(extractor, raw, columns)
    return len(found) if extractor.spread else 1


def _count(extractor: Extractor, raw: Sequence[Any], columns: Sequence[ColumnTrial]) -> None:
    for value, column, found in zip(raw, extractor.columns, columns, strict=True):
        if extractor.missing(value, column):
            found.missing += 1
            continue
        try:
            parse(value, column.type)
        except Misfit:
            found.misfits += 1
        else:
            found.values += 1
