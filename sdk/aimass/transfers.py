"""Uploads and downloads: resumable, checked by digest."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from aimass.calls import unary
from aimass.exchange import Plan
from aimass.failures import Failure
from aimass.v1 import uploads_pb2 as pb

CHUNK = 8 * 2**20
_KINDS = {"sources": "source", "artifacts": "artifact"}
Progress = Callable[[int, int], None]  # bytes transferred, bytes in total


def digest_of(file: BinaryIO) -> tuple[str, int]:
    """Digest and size of a file, which is left at its start."""
    file.seek(0)
    digest = hashlib.file_digest(cast(Any, file), "sha256")
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return f"sha256:{digest.hexdigest()}", size


def upload(file: BinaryIO, to: str, upload_id: str | None, progress: Progress | None) -> Plan[pb.Upload]:
    """The plan that uploads a file, or continues the upload `upload_id`, and commits it by digest.

    Raises Failure: digest_mismatch if the file changed meanwhile.
    """
    if to not in _KINDS:
        raise Failure("invalid_value", f"files are uploaded to sources or artifacts, not to {to}")
    noun = f"{_KINDS[to]}_upload"
    digest, size = digest_of(file)
    status: pb.Upload
    if upload_id:
        status = yield from unary(to, f"get_{noun}", upload=upload_id)
    else:
        status = yield from unary(to, f"create_{noun}")
    while status.committed_size < size:
        status = yield from _chunk(file, to, noun, status)
        if progress:
            progress(status.committed_size, size)
    committed: pb.Upload = yield from unary(to, f"commit_{noun}", upload=status.upload, digest=digest)
    return committed


def _chunk(file: BinaryIO, to: str, noun: str, status: pb.Upload) -> Plan[pb.Upload]:
    file.seek(status.committed_size)
    content = file.read(CHUNK)
    if not content:
        raise Failure("digest_mismatch", "the file became shorter while it was uploaded")
    written: pb.Upload
    try:
        written = yield from unary(
            to, f"write_{noun}", upload=status.upload, offset=status.committed_size, body=content
        )
    except Failure as failure:
        # The chunk was stored, but its answer was lost.
        if failure.code != "wrong_offset":
            raise
        written = yield from unary(to, f"get_{noun}", upload=status.upload)
    return written


class Download:
    """The target of a download: a file, or memory."""

    def __init__(self, to: Path | None, digest: str | None) -> None:
        """A file is written as `<name>.part`, which a later download of the same digest continues.

        Without a digest it is written anew, since nothing tells whether an old part has the same bytes.
        """
        self._to, self._digest = to, digest
        self._part = to.with_name(f"{to.name}.part") if to else None
        self._memory = bytearray()
        self._file = self._part.open("ab" if digest else "wb") if self._part else None

    @property
    def offset(self) -> int:
        """Bytes that are there."""
        return self._file.tell() if self._file else len(self._memory)

    def write(self, content: bytes) -> None:
        """Appends bytes."""
        if self._file:
            self._file.write(content)
        else:
            self._memory += content

    def restart(self) -> None:
        """Discards the bytes that are there: they belong to something else."""
        if self._file:
            self._file.seek(0)
            self._file.truncate()
        self._memory.clear()

    def finish(self) -> bytes | Path:
        """The bytes, or the path of the file. Raises digest_mismatch, and discards the bytes then."""
        self.close()
        content = bytes(self._memory)
        if self._part is None or self._to is None:
            found = f"sha256:{hashlib.sha256(content).hexdigest()}"
        else:
            with self._part.open("rb") as file:
                found = digest_of(file)[0]
        if self._digest and found != self._digest:
            if self._part:
                self._part.unlink()
            raise Failure("digest_mismatch", f"the bytes are {found}, not {self._digest}")
        if self._part is None or self._to is None:
            return content
        return self._part.replace(self._to)

    def close(self) -> None:
        """Closes the file; its bytes stay for the next attempt."""
        if self._file:
            self._file.close()


def place(
    digest: str | None, run: str | None, artifact: str | None, data_set: str | None = None
) -> tuple[str, str, dict[str, str]]:
    """Service, method and arguments of a download: of an artifact or a data set's file by digest, a run's by name."""
    if digest and data_set and not run:
        return "attachments", "download_attachment", {"data_set": data_set, "digest": digest}
    if digest and not run:
        return "artifacts", "download_artifact", {"digest": digest}
    if run and artifact:
        return "runs", "download_run_artifact", {"run": run, "artifact": artifact}
    raise TypeError("download() needs digest, digest and data_set, or run and artifact")
