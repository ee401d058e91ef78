"""Rules for documents: one for their values, and one for each of their arrays, with what tells the document."""

import re
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from services.data.discovery import joins, shapes
from services.data.discovery.columns import Spot, rule_name, spots, told, without
from services.data.discovery.domain import Discovery, Proposal
from services.data.discovery.evidence import Made, Make, left_over, weighed
from services.data.discovery.names import unused
from services.data.discovery.shapes import Shape, names, written
from services.data.reading import arrays, extractor, lines, paths
from services.data.reading.arrays import Unfit
from services.data.reading.kinds import Compiled, JsonRule, RuleColumn
from services.data.reading.paths import EACH, Path
from services.data.reading.samples import Sample, suggested
from services.data.rules.domain import Refused

MOST = 100  # rules for arrays, those with the most documents
_ROWS = 50_000  # elements that are looked at
_UNEXPLAINED, _SHOWN = 20, 3
_NAMED = re.compile(r"(?i)(?:\b|_|[a-z](?=[A-Z]))(?:id|key|code|no|nr|num|number|ref|uuid|line|pos|position|seq)\Z")


def of_documents(sample: Sample) -> Discovery:
    """The rule for the values that documents have once, then those for their arrays."""
    documents = sample.records
    head, *inner = shapes.shapes(documents)
    of_arrays = [one for one in inner if one.values()]
    first = _of_values(head, documents, inner, of_arrays)
    key, taken, found = _key_of(head, documents), {one.rule for one in first.proposals}, list[Proposal]()
    for shape in of_arrays:
        if proposal := _of_array(shape, [key, *_between(shape, of_arrays, documents)], documents, taken):
            found.append(proposal)
            taken.add(proposal.rule)
    found.sort(key=lambda one: -one.records)
    return replace(first, proposals=(*first.proposals, *found[:MOST]))


def _of_values(head: Shape, documents: Sequence[Any], inner: Sequence[Shape], own: Sequence[Shape]) -> Discovery:
    """The rule for what is in no array."""
    held = head.values()
    places, left = spots(("_".join(names(path)), written(path)) for path, _ in held)
    make = _maker(places, {written(path) for path, one in held if one.nested}, documents=True)
    there = ", ".join(written(one.array[:-1]) for one in own if one.array.count(EACH) == 1)[:200]
    empty = [written(one.array[:-1]) for one in inner if one not in own and one.array.count(EACH) == 1]
    about = "documents" + (f" (rules of their own for {there})" if there else "")
    about += without([*map(written, head.maps()), *head.unnamed, *empty, *left])
    made = make(documents) if documents else None
    proposals = (told(weighed("documents", made, make, documents, (), about), made, documents),) if made else ()
    rest = left_over(made, documents)
    shown = tuple(lines.text_of(one, ()) for one in rest[:_UNEXPLAINED])
    return Discovery(len(documents), proposals, len(rest), shown)


def _of_array(
    shape: Shape, keys: Sequence[Path | None], documents: Sequence[Any], taken: Container[str]
) -> Proposal | None:
    """The rule for the elements of an array, with the keys of what they are in."""
    held, size = shape.values(), len(shape.array)
    own = [("_".join(names(path[size:])) or [*names(path), "value"][-2], written(path)) for path, _ in held]
    known = {name.lower() for name, _ in own}
    around = [("_".join(names(key)), written(key)) for key in keys if key is not None]
    around = [(f"parent_{name}" if name.lower() in known else name, source) for name, source in around]
    places, _ = spots([*around, *own])
    make = _maker(places, {written(path) for path, one in held if one.nested})
    having, against = list[Any](), list[Refused]()
    spread = arrays.spreader([shape.array], keep_empty=False)
    for document in documents:
        try:
            if spread(document):
                having.append(document)
        except Unfit as unfit:
            against.append(Refused(lines.text_of(document, ()), unfit.reason))
    if not having or not (made := make(having)):
        return None
    rule = unused(rule_name("_".join(names(shape.array)) or "elements"), taken)
    told_by = ", ".join(name for name, _ in around) or "no column"
    about = f"documents with elements in {written(shape.array[:-1])[:100]}, told apart by {told_by}"
    return told(weighed(rule, made, make, having, (), about, against[:_SHOWN]), made, having)


def _maker(places: Sequence[Spot], variants: Container[str], documents: bool = False) -> Make:
    """What makes a rule with these columns; of documents, or of elements."""
    steps = tuple(paths.parse(place.source) for place in places)

    def make(found: Sequence[Any]) -> Made | None:
        if not steps or (not documents and not any(EACH in path for path in steps)):
            return None
        values = _values(steps, found)
        typed = tuple(map(_column, places, values, (place.source in variants for place in places)))
        return Made(JsonRule(typed), extractor.for_documents(Compiled(typed, paths=steps))) if all(values) else None

    return make


def _values(steps: Sequence[Path], documents: Sequence[Any]) -> list[list[Any]]:
    """The values of each path, in as many rows as are looked at."""
    if not any(EACH in path for path in steps):
        return [[paths.find(document, path) for document in documents] for path in steps]
    spread, rows = arrays.spreader(steps, keep_empty=False), list[list[Any]]()
    for document in documents:
        with suppress(Unfit):
            rows += spread(document)
        if len(rows) > _ROWS:
            break
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in steps]


def _column(place: Spot, values: Sequence[Any], variant: bool) -> RuleColumn:
    plain = [None if isinstance(value, dict | list) else value for value in values]
    found = suggested(place.name, plain, set())
    return RuleColumn(place.name, place.source, found.type, required=not found.nullable, variant=variant)


def _key_of(head: Shape, documents: Sequence[Any]) -> Path | None:
    """The place whose values tell the documents apart."""
    held = {written(path): path for path, one in head.values() if one.texts and not one.nested}
    found = [joins.Column("", said, [paths.find(one, path) for one in documents]) for said, path in held.items()]
    return next((held[column.name] for column, _ in joins.keys(found)), None)


def _between(shape: Shape, others: Sequence[Shape], documents: Sequence[Any]) -> Iterator[Path]:
    """Of each array that this one is in, the place that tells its elements apart in their document."""
    for outer in others:
        if outer is shape or shape.array[: len(outer.array)] != outer.array:
            continue
        for path, one in sorted(outer.values(), key=lambda held: not _NAMED.search([*names(held[0]), ""][-2])):
            if one.texts and not one.nested and all(_tells(path, document) for document in documents):
                yield path
                break


def _tells(path: Path, document: Any) -> bool:
    try:
        values = [row[0] for row in arrays.spreader([path], keep_empty=False)(document)]
    except Unfit:
        return True
    return None not in values and len(set(map(str, values))) == len(values)
