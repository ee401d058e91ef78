"""Rules for the records of a topic: for documents their columns, for text a rule of lines inside for each kind."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from services.data.discovery import documents, records
from services.data.discovery.domain import Discovery, Proposal
from services.data.discovery.names import unused
from services.data.reading import extractor
from services.data.reading.extractor import Refusal
from services.data.reading.folders import Place
from services.data.reading.kinds import InnerRule, JsonRule, RegexRule, RuleColumn
from services.data.reading.samples import Sample
from services.data.reading.topics import KafkaSource, TopicFormat
from services.data.rules.compiling import compile_rule
from services.data.schema import ColumnType
from services.data.structs import to_plain

_PLACE = (("partition", ColumnType.INT64), ("offset", ColumnType.INT64), ("timestamp", ColumnType.TIMESTAMP))
_SHOWN = 3  # rows of a rule


def of_records(source: KafkaSource, sample: Sample) -> Discovery:
    """The rules. Of text those for its lines, each inside a rule that says which record it was."""
    if source.value_format is not TopicFormat.TEXT:
        return documents.of_documents(sample)
    texts = [record["value"] for record in sample.records if record["value"] is not None]
    found = records.of_records(texts)
    return replace(found, proposals=tuple(_inside(one, source, sample.records) for one in found.proposals))


def _inside(proposal: Proposal, source: KafkaSource, found: Sequence[dict[str, Any]]) -> Proposal:
    inner = proposal.definition
    assert isinstance(inner, RegexRule), "rules of lines are patterns"
    taken = {column.name.lower() for column in inner.columns}
    outer = list[RuleColumn]()
    for name, kind in _PLACE:
        free = unused(name, taken)
        taken.add(free.lower())
        outer.append(RuleColumn(free, f"$.{name}", kind, required=kind is ColumnType.INT64))
    rule = JsonRule(tuple(outer), (InnerRule("$.value", inner),))
    ready = extractor.of(compile_rule(rule, source, Place(Path("/"), ())), (), ())
    names = [column.name for column in ready.columns]
    made = (row for record in found if not isinstance(row := ready.row(record), Refusal))
    rows = tuple(to_plain(dict(zip(names, row, strict=True))) for row in islice(made, _SHOWN))
    return replace(proposal, definition=rule, rows=rows)
