"""What a version of a rule makes of a sample: rows, refusals, and what each column finds. Pure."""

from collections.abc import Sequence
from typing import Any

from services.data.reading.extractor import Extractor, Refusal, Unfit
from services.data.reading.kinds import Compiled
from services.data.reading.samples import Tried
from services.data.reading.values import Misfit, parse
from services.data.rules.domain import ColumnTrial, Refused, Trial

_SHOWN = 20


def tried(compiled: Compiled, tries: Sequence[Tried]) -> Trial:
    """The coverage of the rule and of each of its columns."""
    accepted, rows, refused = 0, list[dict[str, object]](), list[Refused]()
    columns = [ColumnTrial(column.name) for column in compiled.columns]
    names = [column.name for column in compiled.columns]
    for one in tries:
        row = Refusal(one.reason) if one.reason else one.extractor.row(one.record)
        if not one.reason:
            _look(one.extractor, one.record, columns)
        if not isinstance(row, Refusal):
            accepted += 1
            if len(rows) < _SHOWN:
                rows.append(dict(zip(names, row, strict=True)))
        elif len(refused) < _SHOWN:
            refused.append(Refused(one.shown(), row.reason))
    return Trial(len(tries), accepted, tuple(rows), tuple(refused), compiled, tuple(columns))


def _look(extractor: Extractor, record: Any, columns: Sequence[ColumnTrial]) -> None:
    """Counts the values of a record that has the rule's form, each for itself."""
    try:
        raw = extractor.pick(record)
    except Unfit:
        return
    for value, column, found in zip(raw or (), extractor.columns, columns, strict=False):
        if extractor.missing(value, column):
            found.missing += 1
            continue
        try:
            parse(value, column.type)
        except Misfit:
            found.misfits += 1
        else:
            found.values += 1
