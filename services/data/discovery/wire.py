"""What discovery proposes on the wire."""

from collections.abc import Iterable
from dataclasses import asdict

from aimass.v1 import rules_pb2 as pb
from services.data.discovery.domain import Discovery, FoundDownload, Proposal
from services.data.discovery.joins import Join, Key
from services.data.rules.wire import definition_to_wire, download_to_wire, refused_to_wire
from services.data.sources.wire import files_to_wire
from services.data.structs import to_struct


def discovery_to_wire(found: Discovery) -> pb.DiscoverRulesResponse:
    """All that was found."""
    return pb.DiscoverRulesResponse(
        sampled=found.sampled,
        proposals=[_proposal_to_wire(proposal, found.sampled) for proposal in found.proposals],
        unexplained=found.unexplained,
        examples=found.examples,
        suggested=files_to_wire(found.suggested) if found.suggested else None,
    )


def _proposal_to_wire(proposal: Proposal, sampled: int) -> pb.RuleProposal:
    low, high = proposal.interval
    return pb.RuleProposal(
        rule=proposal.rule,
        definition=definition_to_wire(proposal.definition),
        records=proposal.records,
        seen=proposal.seen,
        coverage=proposal.records / sampled if sampled else 0.0,
        precision=proposal.precision,
        precision_low=low,
        precision_high=high,
        rows=[to_struct(row) for row in proposal.rows],
        counter_examples=map(refused_to_wire, proposal.counter_examples),
        reason=proposal.reason,
        downloads=map(_download_to_wire, proposal.downloads),
    )


def _download_to_wire(found: FoundDownload) -> pb.DownloadProposal:
    return pb.DownloadProposal(
        download=download_to_wire(found.download),
        records=found.records,
        urls=found.urls,
        checked=found.checked,
        kept=found.kept,
        media_types=found.kinds,
        reasons=found.reasons,
    )


def joins_to_wire(keys: Iterable[Key], joins: Iterable[Join]) -> pb.DiscoverJoinsResponse:
    """Keys and what refers to them."""
    return pb.DiscoverJoinsResponse(keys=[pb.FoundKey(**asdict(key)) for key in keys], joins=map(_join_to_wire, joins))


def _join_to_wire(join: Join) -> pb.JoinProposal:
    low, high = join.interval
    return pb.JoinProposal(
        source=join.source,
        column=join.column,
        key_source=join.key_source,
        key_column=join.key_column,
        records=join.records,
        coverage=join.matched / join.records if join.records else 0.0,
        precision=join.precision,
        precision_low=low,
        precision_high=high,
        score=join.score,
        sql=join.sql,
        examples=join.examples,
        counter_examples=join.counter_examples,
        reason=join.reason,
    )
