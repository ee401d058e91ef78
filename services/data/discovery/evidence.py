"""What speaks for and against a rule that was found.

What a rule says of its values is first said by every other record and tried on the rest, which gives its precision; the
rule itself is made of all records.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from services.data.discovery.domain import Proposal, Refused
from services.data.reading import lines
from services.data.reading.extractor import Extractor, Refusal
from services.data.reading.kinds import RuleDefinition
from services.data.structs import to_plain

_SHOWN = 3  # rows and counter-examples of a rule


class Made(NamedTuple):
    """A rule as it is said, and as it runs."""

    definition: RuleDefinition
    ready: Extractor


Make = Callable[[Sequence[Any]], Made | None]


def weighed(
    rule: str,
    make: Make,
    records: Sequence[Any],
    fields: Sequence[str],
    about: str,
    against: Sequence[Refused] = (),
) -> Proposal | None:
    """The rule that `make` makes of records, with its evidence; None when it makes none."""
    made, tried = make(records), make(records[::2])
    if made is None:
        return None
    rest = records[1::2] if tried else ()
    rows, refused = list[dict[str, object]](), list(against)
    for record in records[:_SHOWN]:
        if not isinstance(row := made.ready.row(record), Refusal):
            names = [column.name for column in made.definition.columns]
            rows.append(to_plain(dict(zip(names, row, strict=True))))
    right = 0
    for record in rest:
        row = tried.ready.row(record) if tried else Refusal("")
        if isinstance(row, Refusal):
            refused.append(Refused(lines.text_of(record, fields), row.reason))
        else:
            right += 1
    values = len(made.definition.columns)
    reason = f"{len(records)} {about}; {values} column{'s' * (values != 1)}"
    reason += f"; of {len(rest)} that it was not made of, {right} fit" if rest else "; too few to try it on others"
    return Proposal(rule, made.definition, len(records), len(rest), right, tuple(rows), tuple(refused[:_SHOWN]), reason)
