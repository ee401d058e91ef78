"""Digests, `sha256:<hex>`: how bytes are named, and whether a file still has those of its name."""

import hashlib
import os
import re
from pathlib import Path

from services.kit.errors import Code, Failure

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})\Z")
_REMEMBERED = 10_000


def digest_of(data: bytes) -> str:
    """sha256:<hex>"""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def hash_of(path: Path) -> str:
    """The digest of a file."""
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def name_of(tenant: str, digest: str) -> str:
    """Where a blob lies in its store: `<tenant>/sha256/<2>/<hex>`. Raises invalid_value for what is no digest."""
    match = _DIGEST.match(digest)
    if not match:
        raise Failure(Code.INVALID_VALUE, "a digest is sha256: and 64 hex digits")
    return f"{tenant}/sha256/{match.group(1)[:2]}/{match.group(1)}"


class Seen:
    """Remembers which files were hashed and matched, so that a large one is not read again for each use."""

    def __init__(self) -> None:
        self._states: dict[tuple[int, str], tuple[int, int, int]] = {}

    def right(self, path: Path, digest: str) -> bool:
        """Whether a file has the bytes of a digest: hashed now, or once before when nobody wrote to it since."""
        found = os.stat(path)
        key, state = (found.st_ino, digest), (found.st_dev, found.st_size, found.st_mtime_ns)
        if self._states.get(key) == state:
            return True
        if hash_of(path) != digest:
            return False
        if len(self._states) >= _REMEMBERED:
            self._states.clear()
        self._states[key] = state
        return True
