"""Attachments between the domain and the wire."""

from aimass.v1 import attachments_pb2 as pb
from services.data.attachments.domain import Attachment, State
from services.data.attachments.service import Preview
from services.kit.errors import InvalidValue
from services.kit.timestamps import to_wire

_PREFIX = "ATTACHMENT_STATE_"


def state_from_wire(state: pb.AttachmentState.ValueType) -> State | None:
    """None for all states. Raises invalid_value for one that is not known."""
    if not state:
        return None
    name = pb.AttachmentState.Name(state) if state in pb.AttachmentState.values() else ""
    if (member := State.__members__.get(name.removeprefix(_PREFIX))) is None:
        raise InvalidValue("the state is not known")
    return member


def attachment_to_wire(found: Attachment) -> pb.Attachment:
    """A place with what became of it."""
    attached, outcome = found.attached, found.attached.outcome
    return pb.Attachment(
        data_set=attached.data_set,
        column=attached.column,
        digest_column=attached.digests,
        origin=attached.origin,
        state=pb.AttachmentState.Value(f"{_PREFIX}{outcome.state.name}"),
        reason=outcome.reason,
        digest=outcome.digest,
        bytes=outcome.bytes,
        media_type=outcome.media_type,
        extraction=found.extraction,
        update_time=to_wire(found.update_time),
    )


def preview_to_wire(preview: Preview) -> pb.PreviewAttachmentResponse:
    """A file with what its first bytes tell."""
    width, height = preview.size or (None, None)
    return pb.PreviewAttachmentResponse(
        digest=preview.kept.digest,
        bytes=preview.kept.bytes,
        media_type=preview.kept.media_type,
        columns=preview.columns,
        width=width,
        height=height,
        text=preview.text,
        create_time=to_wire(preview.kept.create_time),
    )
