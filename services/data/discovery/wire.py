"""Found rules on the wire."""

from aimass.v1 import rules_pb2 as pb
from services.data.discovery.domain import Discovery, Proposal
from services.data.rules.wire import definition_to_wire, refused_to_wire
from services.data.structs import to_struct


def discovery_to_wire(found: Discovery) -> pb.DiscoverRulesResponse:
    """All that was found."""
    return pb.DiscoverRulesResponse(
        sampled=found.sampled,
        proposals=[_proposal_to_wire(proposal, found.sampled) for proposal in found.proposals],
        unexplained=found.unexplained,
        examples=found.examples,
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
    )
