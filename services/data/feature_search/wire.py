"""Feature searches between the domain and the wire."""

from aimass.v1 import feature_search_pb2 as pb
from services.data.feature_search.domain import DEFAULT_RATE, Found, Proposal, Search, Wanted
from services.data.features.wire import range_from_wire, step_to_wire


def wanted_from_wire(request: pb.SearchFeaturesRequest) -> Wanted:
    """What a caller asks for."""
    return Wanted(
        request.data_set,
        request.label,
        request.time,
        tuple(request.exclude),
        tuple(request.allow),
        range_from_wire(request.train) if request.HasField("train") else None,
        request.rows,
        request.false_discovery_rate if request.HasField("false_discovery_rate") else DEFAULT_RATE,
    )


def found_to_wire(search: Search, found: Found) -> pb.FeatureSearch:
    """What a search found."""
    return pb.FeatureSearch(
        data_set=search.wanted.data_set,
        data_set_version=search.data_set_version,
        label=search.wanted.label,
        rows=found.rows,
        candidates=found.candidates,
        tried=found.tried,
        tested=found.tested,
        auc=found.auc,
        auc_trees=found.auc_trees,
        auc_all=found.auc_all,
        proposals=[_proposal_to_wire(proposal) for proposal in found.proposals],
        refusals=[
            pb.FeatureRefusal(
                column=one.column, leak=pb.Leak.Value(f"LEAK_{one.leak.upper()}"), reason=one.reason, auc=one.auc
            )
            for one in found.refusals
        ],
    )


def _proposal_to_wire(proposal: Proposal) -> pb.FeatureProposal:
    return pb.FeatureProposal(**{**vars(proposal), "step": step_to_wire(proposal.step)})
