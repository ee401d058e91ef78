"""What speaks for and against a rule that was found.

What a rule says of its values is first said by every other record and tried on the rest, which gives its precision; the
rule itself is made of all records.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from services.data.discovery.domain import Discovery, Proposal
from services.data.reading import lines
from services.data.reading.extractor import Extractor, Refusal
from services.data.reading.kinds import RuleDefinition
from services.data.rules.domain import Refused
from services.data.structs import to_plain, to_struct

_SHOWN = 3  # rows and counter-examples of a rule
_ROOM = 2**20  # bytes for the rows of all rules, and as many for the counter-examples


class Made(NamedTuple):
    """A rule as it is said, and as it runs."""

    definition: RuleDefinition
    ready: Extractor


Make = Callable[[Sequence[Any]], Made | None]


def weighed(
    rule: str,
    made: Made,
    make: Make,
    records: Sequence[Any],
    fields: Sequence[str],
    about: str,
    against: Sequence[Refused] = (),
    of: int = 0,
) -> Proposal:
    """A rule that `make` made of records, with its evidence; `of` is how many there are, if these are not all."""
    tried = make(records[::2])
    rest = records[1::2] if tried else ()
    rows, refused = list[dict[str, object]](), list(against)
    names = [column.name for column in made.definition.columns]
    for record in records[:_SHOWN]:
        if not isinstance(found := made.ready.rows(record), Refusal):
            rows += [to_plain(dict(zip(names, row, strict=True))) for row in found[: _SHOWN - len(rows)]]
    right = 0
    for record in rest:
        found = tried.ready.rows(record) if tried else Refusal("")
        if isinstance(found, Refusal):
            refused.append(Refused(lines.text_of(record, fields), found.reason))
        else:
            right += 1
    whole = max(of, len(records))
    reason = f"{whole} {about}; {len(names)} column{'s' * (len(names) != 1)}"
    reason += f"; {len(records)} of them, chosen by chance, were looked at" if whole > len(records) else ""
    reason += f"; of {len(rest)} that it was not made of, {right} fit" if rest else "; too few to try it on others"
    evidence = tuple(rows), tuple(refused[:_SHOWN]), reason
    return Proposal(rule, made.definition, whole, len(records), len(rest), right, *evidence)


def left_over(made: Made | None, records: Sequence[Any]) -> list[Any]:
    """The records that a rule gives no row for; without a rule all."""
    return [record for record in records if made is None or isinstance(made.ready.rows(record), Refusal)]


def fitting(found: Discovery) -> Discovery:
    """Without the rows that are too large to be shown, and with records cut, so that an answer is a message."""
    each = _ROOM // (_SHOWN * max(len(found.proposals), 1))
    longest = each // 4  # bytes of a character

    def shown(proposal: Proposal) -> Proposal:
        rows = tuple(row for row in proposal.rows if to_struct(row).ByteSize() <= each)
        refused = tuple(Refused(one.record[:longest], one.reason) for one in proposal.counter_examples)
        return replace(proposal, rows=rows, counter_examples=refused)

    return replace(found, proposals=tuple(map(shown, found.proposals)))
