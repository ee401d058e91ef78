"""The servers that files may be on: what each is called, and what reads from it in a child."""

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from services.data.reading import files_s3
from services.data.reading.buckets import Bucket, bucket_of
from services.data.reading.endpoints import Endpoint, endpoint_of
from services.data.reading.files import Files
from services.data.reading.files_http import HttpFiles
from services.data.reading.folders import Place
from services.data.reading.kinds import FilesSource
from services.data.reading.patience import Patience


def server_of(source: FilesSource) -> Bucket | Endpoint:
    """What a pattern names. Raises invalid_value."""
    return bucket_of(source) if source.bucket else endpoint_of(source)


def identity(source: FilesSource) -> str:
    """What a cursor belongs to: another bucket or address, or another value that grows, is read from its start."""
    named = server_of(source).identity + (f" {source.since_path}" if source.since_path else "")
    return f"sha256:{hashlib.sha256(named.encode()).hexdigest()}"


def place_of(source: FilesSource) -> Place:
    """What is to be read there. Raises invalid_value."""
    if source.bucket:
        return files_s3.place_of(source)
    endpoint_of(source)
    return Place(Path("/"), ())


def files(
    source: FilesSource, place: Place, patience: Patience, cursor: dict[str, Any] | None
) -> contextlib.AbstractContextManager[Files]:
    """What reads from it; without a cursor, for a sample."""
    if source.bucket:
        return files_s3.S3Files(source, place, patience)
    return HttpFiles(source, place, patience, cursor)
