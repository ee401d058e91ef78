"""A run of a rule set: what its child is asked, and what the result comes to. Of one rule it is the plain case."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from services.data.datasets import parquet, statistics
from services.data.datasets.domain import DataSetVersion, LineageNode, NewVersion
from services.data.extractions.domain import REPORT, Extraction, Result, Shares, Task
from services.data.extractions.notes import notes_of
from services.data.rule_sets.domain import Match, Overlap, ranked


def data_sets(extraction: Extraction, task: Task) -> tuple[str, ...]:
    """What a run may write: those of the rules in their order, and last the run's own."""
    return (*(member.data_set for member in task.members), extraction.data_set)


def request(extraction: Extraction, task: Task) -> dict[str, Any]:
    """What the child of a set has to know beyond that of a rule."""
    if not task.members:
        return {}
    report = {
        "extraction": extraction.extraction,
        "time": extraction.create_time.isoformat(),
        "version": extraction.rule_set_version,
        "members": [[member.rule, member.version, member.data_set] for member in task.members],
    }
    names = [member.rule for member in task.members]
    return {"rules": names, "every": task.match is Match.ALL, "report": report}


def new_versions(extraction: Extraction, task: Task, result: dict[str, Any]) -> tuple[NewVersion, ...]:
    """One of each rule that got rows, and that of the set with its report and what no rule takes."""
    source, run = LineageNode("source", extraction.source), extraction.extraction
    found = [
        NewVersion(
            data_set=member.data_set,
            run=run,
            files=parquet.from_json(made["files"]),
            columns=compiled.schema,
            append=task.replay is None,
            parents=(source, LineageNode("rule", member.rule, member.version)),
            statistics=statistics.from_json(made["statistics"]),
        )
        for member, compiled, made in zip(task.members, task.compiled.branches, result["rules"], strict=True)
        if made["rows"] or task.replay  # rows that are read again replace the old ones, also by none
    ]
    rows = [made["rows"] for made in result["rules"]]
    overlaps = ranked(Counter({(first, second): records for first, second, records in result["overlaps"]}))
    more = {"overlapping": result["overlapping"], "overlaps": [[*pair, n] for pair, n in overlaps]}
    own = NewVersion(
        data_set=extraction.data_set,
        run=run,
        files=parquet.from_json(result["files"]),
        columns=REPORT,
        append=True,
        quarantined=result["quarantined"],
        quarantine=parquet.from_json(result["quarantine"]),
        parents=(source, extraction.read_by),
        statistics=statistics.from_json(result["statistics"]),
        notes=notes_of(result, sum(rows), [new.data_set for new in found], **more),
    )
    return (*found, own)


def shares(task: Task, news: Sequence[NewVersion], versions: Sequence[DataSetVersion]) -> Shares:
    """What the rules did, by the versions that were added and what was noted."""
    if not task.members:
        return Shares()
    notes, made = news[-1].notes, {version.data_set: version for version in versions}
    results = []
    for member in task.members:
        version = made.get(member.data_set)
        found = (version.version, version.rows_added, version.digest) if version else (0, 0)
        results.append(Result(member.rule, member.version, member.data_set, *found))
    names = [member.rule for member in task.members]
    overlaps = tuple(Overlap(names[first], names[second], records) for first, second, records in notes["overlaps"])
    return Shares(tuple(results), notes["overlapping"], overlaps)
