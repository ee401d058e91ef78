"""What a tag means. Pure."""

import re
from dataclasses import replace
from datetime import datetime

from services.data.datasets.domain import Tag
from services.kit.errors import Code, Failure, Violation, match_etag

_TAG = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")


def tagged(before: Tag | None, data_set: str, tag: str, version: int, etag: str, now: datetime) -> Tag:
    """A tag of a version; one that is there already moves. Raises invalid_name, etag_required, etag_mismatch."""
    if not _TAG.match(tag):
        rule = "must be a tag: [a-z0-9][a-z0-9._-]{0,62}"
        raise Failure(Code.INVALID_NAME, f"tag {rule}", [Violation("/tag", rule)])
    if before is None:
        return Tag(data_set, tag, version, 1, now, now)
    if before.version == version:
        return before
    if not etag:
        text = f"the tag {tag} is at version {before.version}: If-Match with its etag is required"
        raise Failure(Code.ETAG_REQUIRED, text)
    match_etag(etag, before.generation, tag)
    return replace(before, version=version, generation=before.generation + 1, update_time=now)
