"""Records of several lines are told from lines by what they look like, and get rules."""

import io
import json
from pathlib import Path

import pytest

from services.data.discovery import lines, records
from services.data.discovery.domain import Proposal
from services.data.reading import extractor, starts
from services.data.reading.extractor import Extractor, Refusal
from services.data.reading.folders import Place
from services.data.reading.kinds import FileFormat, FilesSource, RegexRule
from services.data.reading.multiline import RecordReader
from services.data.rules.compiling import compile_rule
from tests.data.discovery.planted import planted
from tests.data.discovery.systems import SYSTEMS, corpus

TEXT = FilesSource(FileFormat.TEXT, "a")


@pytest.mark.parametrize("name", SYSTEMS)
def test_logs_of_single_lines_are_left_as_they_are(name: str) -> None:
    assert starts.suggested(corpus(SYSTEMS[name], 3, 800).lines) == ""


@pytest.mark.parametrize("name", [name for name, system in SYSTEMS.items() if system.header])
def test_records_begin_where_they_were_planted(name: str) -> None:
    truth = planted(corpus(SYSTEMS[name], 3, 400).lines, seed=7)
    start = starts.suggested(truth.lines)
    source = FilesSource(FileFormat.TEXT, "a", record_start=start)
    text = "".join(f"{line}\n" for line in truth.lines).encode()
    batch = RecordReader(source, io.BytesIO(text), complete=lambda: True).read(1000, 2**30)

    assert start
    assert batch.records == truth.records
    assert batch.numbers == [number + 1 for number in truth.starts]


@pytest.mark.parametrize(
    "text",
    [
        "a\nb\n  c\nd",  # nothing like a time
        "  2026-01-01 10:00 a\n2026-01-01 10:00 b",  # the first line goes on from nowhere
        "2026-01-01 10:00 a\nno time\n2026-01-01 10:00 b\nnone\n  x\n2026-01-01 10:00 c\nneither",  # two programs
        "",
    ],
)
def test_where_nothing_speaks_for_it_lines_stay_records(text: str) -> None:
    assert starts.suggested(text.split("\n")) == ""


def test_first_lines_tell_the_kinds_and_the_rest_is_a_column() -> None:
    plain = corpus(SYSTEMS["parcels"], 3, 400)
    truth = planted(plain.lines, seed=7)
    found = records.of_records(truth.records)
    alone = lines.of_lines(plain.lines)

    assert [one.records for one in found.proposals] == [one.records for one in alone.proposals]
    longer = [
        one for one in found.proposals if isinstance(one.definition, RegexRule) and r"\n(" in one.definition.pattern
    ]
    assert len(longer) > 5
    for proposal in longer:
        rule = proposal.definition
        assert isinstance(rule, RegexRule)
        place, rest = next((n, one.name) for n, one in enumerate(rule.columns) if one.name in ("trace", "more"))
        assert proposal.rows[0][rest]
        ready = ready_of(proposal)
        rows = [(record, row) for record in truth.records if not isinstance(row := ready.row(record), Refusal)]
        assert len(rows) >= proposal.records - len(proposal.counter_examples)
        assert all(row[place] == (record.partition("\n")[2] or None) for record, row in rows)


def test_traces_say_what_was_wrong_and_bodies_what_is_in_them() -> None:
    java = "shop.Lost$Item: no shelf 7\n\tat shop.Cart.pack(Cart.java:12)\nCaused by: java.io.IOException\n\tat a.B(D)"
    python = 'Traceback (most recent call last):\n  File "a.py", line 3, in run\n    step()\nValueError: no shelf 8'
    odd = 'at last\n  File "something"'
    bodies = [json.dumps({"order": n, "to": {"town": "Bern"}, "door": "b"}, indent=2) for n in range(20)]
    found = records.of_records(
        [f"2026-01-01 10:00:{n % 60:02} ERROR door {n} failed\n{(java, python, odd)[n % 3]}" for n in range(60)]
        + [f"2026-01-01 10:00:{n:02} INFO request of {n}\n{body}" for n, body in enumerate(bodies)]
    )
    failed, requests = found.proposals

    assert [row["error"] for row in failed.rows] == ["shop.Lost$Item", "ValueError", None]
    assert [row["error_text"] for row in failed.rows] == ["no shelf 7", "no shelf 8", None]
    assert failed.rows[0]["trace"] == java
    first = requests.rows[0]
    assert (first["order"], first["to_town"], first["more"]) == (0, "Bern", bodies[0])
    assert isinstance(ready_of(requests).row("2026-01-01 10:00:01 INFO request of 7\nno JSON"), Refusal)
    assert not isinstance(ready_of(requests).row("2026-01-01 10:00:01 INFO request of 7"), Refusal)


def ready_of(proposal: Proposal) -> Extractor:
    return extractor.of(compile_rule(proposal.definition, TEXT, Place(Path("/"), ())), (), ())


def test_a_first_line_ends_where_it_ends() -> None:
    """A pattern with a space does not go on in the next line."""
    found = records.of_records([f"2026-01-01 10:00:{n:02} INFO door {n}\n{n} opened" for n in range(40)])
    (proposal,) = found.proposals
    ready = ready_of(proposal)

    assert isinstance(ready.row("2026-01-01 10:00:01 INFO door\n7"), Refusal)
    row = ready.row("2026-01-01 10:00:01 INFO door 7\n")
    assert not isinstance(row, Refusal)
    assert json.dumps(row[-1]) == "null"
