"""Extractions between the domain and the wire."""

from aimass.v1 import extractions_pb2 as pb
from services.data.extractions.domain import Extraction
from services.data.rule_sets.wire import overlap_to_wire
from services.kit.timestamps import to_wire


def extraction_to_wire(extraction: Extraction) -> pb.Extraction:
    """A run as it stands."""
    return pb.Extraction(
        extraction=extraction.extraction,
        rule=extraction.rule,
        rule_version=extraction.rule_version,
        state=pb.ExtractionState.Value(f"EXTRACTION_STATE_{extraction.state.name}"),
        records_read=extraction.records_read,
        rows_accepted=extraction.rows_accepted,
        rows_quarantined=extraction.rows_quarantined,
        data_set=extraction.data_set,
        data_set_version=extraction.data_set_version,
        error=extraction.error,
        create_time=to_wire(extraction.create_time),
        end_time=to_wire(extraction.end_time),
        operation=extraction.operation,
        rule_set=extraction.rule_set,
        rule_set_version=extraction.rule_set_version,
        results=[pb.RuleResult(**vars(result)) for result in extraction.shares.results],
        records_overlapping=extraction.shares.overlapping,
        overlaps=[overlap_to_wire(overlap) for overlap in extraction.shares.overlaps],
    )
