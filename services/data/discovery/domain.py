"""What discovery proposes: rules with the evidence for and against them. Pure."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from services.data.reading.downloads import Download
from services.data.reading.kinds import FilesSource, RuleDefinition, rule_from_json, source_from_json, to_json
from services.data.rules.domain import Refused

_Z = 1.959964  # of a normal distribution: 95 % lie within so many deviations


@dataclass(frozen=True)
class FoundDownload:
    """A column whose values are URLs: how many records have one, how many differ, and what `checked` of them led to."""

    download: Download
    records: int
    urls: int
    checked: int = 0
    kept: int = 0
    kinds: tuple[str, ...] = ()
    # Why others of these are not kept.
    reasons: tuple[str, ...] = ()
    sample: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proposal:
    """A rule that was found for `records`, of which `seen` were looked at.

    `tested` of these played no part in what it says of types; it is right for `right`.
    """

    rule: str
    definition: RuleDefinition
    records: int
    seen: int
    tested: int
    right: int
    rows: tuple[dict[str, object], ...]
    counter_examples: tuple[Refused, ...]
    reason: str
    downloads: tuple[FoundDownload, ...] = ()

    @property
    def precision(self) -> float:
        """right / tested; 0 of nothing."""
        return self.right / self.tested if self.tested else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Where the precision lies with a probability of 95 %, after Wilson; anywhere when nothing was tested."""
        return wilson(self.right, self.tested)


@dataclass(frozen=True)
class Discovery:
    """The rules found in a sample, best first, and what none of them explains."""

    sampled: int
    proposals: tuple[Proposal, ...]
    unexplained: int
    examples: tuple[str, ...]
    # How files seem to be written, where they are described otherwise.
    suggested: FilesSource | None = None


def wilson(right: int, tested: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927); 0 to 1 of nothing."""
    if not tested:
        return 0.0, 1.0
    share, square = right / tested, _Z * _Z
    middle = (share + square / (2 * tested)) / (1 + square / tested)
    half = _Z * math.sqrt(share * (1 - share) / tested + square / (4 * tested * tested)) / (1 + square / tested)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def discovery_to_json(found: Discovery) -> dict[str, Any]:
    """For the parent of the child that found it."""
    proposals = [
        {
            "rule": proposal.rule,
            "definition": to_json(proposal.definition),
            "records": proposal.records,
            "seen": proposal.seen,
            "tested": proposal.tested,
            "right": proposal.right,
            "rows": proposal.rows,
            "counter_examples": [(refused.record, refused.reason) for refused in proposal.counter_examples],
            "reason": proposal.reason,
            "downloads": [{**asdict(one), "sample": ()} for one in proposal.downloads],
        }
        for proposal in found.proposals
    ]
    seems = to_json(found.suggested) if found.suggested else None
    left = {"unexplained": found.unexplained, "examples": found.examples, "suggested": seems}
    return {"sampled": found.sampled, "proposals": proposals, **left}


def discovery_from_json(said: Mapping[str, Any]) -> Discovery:
    """What `discovery_to_json` wrote; values of rows as JSON has them."""
    proposals = tuple(
        Proposal(
            proposal["rule"],
            rule_from_json(proposal["definition"]),
            proposal["records"],
            proposal["seen"],
            proposal["tested"],
            proposal["right"],
            tuple(proposal["rows"]),
            tuple(Refused(record, reason) for record, reason in proposal["counter_examples"]),
            proposal["reason"],
            tuple(map(_download, proposal["downloads"])),
        )
        for proposal in said["proposals"]
    )
    seems = source_from_json(said["suggested"]) if said["suggested"] else None
    assert seems is None or isinstance(seems, FilesSource)
    return Discovery(said["sampled"], proposals, said["unexplained"], tuple(said["examples"]), seems)


def _download(said: Mapping[str, Any]) -> FoundDownload:
    texts = {name: tuple(said[name]) for name in ("kinds", "reasons", "sample")}
    return FoundDownload(**{**said, **texts, "download": Download.of(said["download"])})
