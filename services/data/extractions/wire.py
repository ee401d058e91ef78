"""Extractions between the domain and the wire."""

from aimass.v1 import extractions_pb2 as pb
from services.data.extractions.domain import Cursor, Extraction, Origin
from services.data.extractions.replays import Asked
from services.data.rule_sets.wire import overlap_to_wire
from services.data.structs import to_struct
from services.data.warehouse.domain import Wanted
from services.kit.errors import InvalidValue, Violation
from services.kit.timestamps import from_wire, to_wire

_PARTS = 1000  # that are named


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
        origin=pb.ExtractionOrigin.Value(f"EXTRACTION_ORIGIN_{extraction.origin.name}"),
        records_landed=extraction.records_landed,
        landed_data_set=extraction.landed_data_set,
        first_landed=extraction.first_landed,
        last_landed=extraction.last_landed,
        output_digest=extraction.output_digest,
    )


def cursor_to_wire(cursor: Cursor) -> pb.Cursor:
    """How far a source was read, the parts that are farthest behind first."""
    parts = sorted(cursor.parts or (), key=lambda part: -part.lag)
    unit = pb.LAG_UNIT_BYTES if cursor.bytes else pb.LAG_UNIT_RECORDS
    return pb.Cursor(
        source=cursor.source,
        cursor=to_struct(cursor.cursor),
        update_time=to_wire(cursor.update_time),
        unit=pb.LAG_UNIT_UNSPECIFIED if cursor.parts is None else unit,
        lag=sum(part.lag for part in parts),
        parts=[pb.PartLag(part=one.part, position=one.position, end=one.end, lag=one.lag) for one in parts[:_PARTS]],
        parts_behind=sum(part.lag > 0 for part in parts),
        last_landed=cursor.last_landed,
        last_read=cursor.last_read,
    )


def asked_from_wire(request: pb.RunExtractionRequest | pb.RunRuleSetRequest) -> Asked:
    """What a request says beside its rule. Raises invalid_value."""
    if request.origin not in pb.ExtractionOrigin.values():
        rule = "must be SOURCE or WAREHOUSE"
        raise InvalidValue(f"origin {rule}", [Violation("/origin", rule)])
    warehouse = request.origin == pb.EXTRACTION_ORIGIN_WAREHOUSE
    said = request.landed
    first = from_wire(said.first_time) if said.HasField("first_time") else None
    last = from_wire(said.last_time) if said.HasField("last_time") else None
    wanted = Wanted(said.first_version, said.last_version, first, last)
    of_rule = (request.aside, request.branch) if isinstance(request, pb.RunExtractionRequest) else (False, "")
    return Asked(Origin.WAREHOUSE if warehouse else Origin.SOURCE, wanted, *of_rule)
