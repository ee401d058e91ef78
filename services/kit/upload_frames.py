"""A file of chunks that lie sealed one behind the other, as they came: an upload on its way.

Each chunk is a thing of its own, named by its upload and offset, so none can be moved, repeated or left out. Behind it
stand how many plain bytes there are by then, and how long it is: what comes next is found without a look at the rest.
A piece of a chunk at the end, of a process that was killed while it added one, does not count; nor do zeros, of a
machine that lost its power when the file was longer already and what came had not been written.
"""

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from services.kit.errors import Failure
from services.kit.sealed import HEAD, MAGIC, Box, Key, Sealer, Thing, box_of, damaged, number_of, plain_size

_TAIL = struct.Struct(">QI")
_LENGTH = 4  # bytes of a tail that are the length of its chunk
_BLOCK = 2**20  # bytes that are looked through at once


class Place(NamedTuple):
    """Where a chunk lies in a file."""

    begin: int
    length: int


def chunk(key: Key, tenant: str, upload: str, offset: int, plain: bytes) -> bytes:
    """A chunk, sealed."""
    out = BytesIO()
    sealer = Sealer(Box(key, _thing(tenant, upload, offset)), out)
    sealer.write(plain)
    sealer.end()
    return out.getvalue()


def opened(key: Key, tenant: str, upload: str, offset: int, sealed: bytes) -> bytes:
    """The chunk again. Raises digest_mismatch for one that is not as it was sealed."""
    return box_of(sealed[:HEAD], key, _thing(tenant, upload, offset)).open_run(0, sealed[HEAD:], True)


def frame(key: Key, tenant: str, upload: str, offset: int, plain: bytes) -> bytes:
    """What is added to the file."""
    sealed = chunk(key, tenant, upload, offset, plain)
    return sealed + _TAIL.pack(offset + len(plain), len(sealed))


def are_in(path: Path) -> bool:
    """Whether the chunks of a file lie sealed; of a file without any as well, or with nothing but zeros in it."""
    with open(path, "rb") as file:
        head = file.read(HEAD)
        if not any(head):  # else what comes would lie plain behind what a lost power left of the first chunk
            return not _used(file, file.seek(0, os.SEEK_END))
    return number_of(head) > 0 or (len(head) < HEAD and MAGIC.startswith(head[: len(MAGIC)]))


def size_of(path: Path) -> int:
    """Plain bytes in the file."""
    with open(path, "rb") as file:
        end = _end(file)
        return _tail(file, end)[0] if end else 0


def end_of(path: Path) -> int:
    """Where the last whole chunk of a file ends, with what stands behind it."""
    with open(path, "rb") as file:
        return _end(file)


def places(path: Path) -> list[Place]:
    """Where the chunks of a file lie, in their order. Raises digest_mismatch for a file of something else."""
    found: list[Place] = []
    with open(path, "rb") as file:
        end = _end(file)
        while end > 0:
            length = _tail(file, end)[1]
            end -= _TAIL.size + length
            found.append(Place(end, length))
    if end:
        raise damaged(path.name)
    return found[::-1]


def behind_each_other(lengths: Iterable[int]) -> list[Place]:
    """Where chunks of these lengths lie in a file that has nothing else."""
    found, begin = list[Place](), 0
    for length in lengths:
        found.append(Place(begin, length))
        begin += length
    return found


def numbers(path: Path, chunks: Iterable[Place]) -> set[int]:
    """The numbers of the keys that sealed chunks."""
    with open(path, "rb") as file:
        return {number_of(os.pread(file.fileno(), HEAD, one.begin)) for one in chunks}


def pieces(path: Path, chunks: Iterable[Place], keys: Mapping[int, Key], tenant: str, upload: str) -> Iterator[bytes]:
    """The plain chunks of a file, from offset 0 on. Raises digest_mismatch."""
    offset = 0
    with open(path, "rb") as file:
        for one in chunks:
            sealed = os.pread(file.fileno(), one.length, one.begin)
            if (key := keys.get(number_of(sealed))) is None:
                raise damaged(upload)
            plain = opened(key, tenant, upload, offset, sealed)
            offset += len(plain)
            yield plain


def _end(file: BinaryIO) -> int:
    size = file.seek(0, os.SEEK_END)
    return next((end for end in _ends(file, size) if _ends_chunk(file, end)), 0) if size else 0


def _ends(file: BinaryIO, size: int) -> Iterator[int]:
    """Where the last whole chunk may end: where the file does, before zeros, or, from behind, where another begins."""
    yield from range(size, max(0, size - len(MAGIC)), -1)
    used = _used(file, size)  # the length of a chunk, which is its end, may itself end with zeros
    yield from range(used, min(used + _LENGTH, size))
    while size > 0:
        begin = max(0, size - _BLOCK)
        block = os.pread(file.fileno(), size - begin + len(MAGIC) - 1, begin)
        at = len(block)
        while (at := block.rfind(MAGIC, 0, at + len(MAGIC) - 1)) >= 0:
            yield begin + at
        size = begin


def _used(file: BinaryIO, size: int) -> int:
    """Bytes of a file up to the last that is not zero."""
    while size > 0:
        begin = max(0, size - _BLOCK)
        if block := os.pread(file.fileno(), size - begin, begin).rstrip(b"\0"):
            return begin + len(block)
        size = begin
    return 0


def _ends_chunk(file: BinaryIO, end: int) -> bool:
    """Whether a chunk ends here that is as long as it says, and adds to what is before it what it says."""
    try:
        total, length = _tail(file, end)
        begin = end - _TAIL.size - length
        before = _tail(file, begin)[0] if begin else 0
        return total == before + plain_size(length, "")
    except Failure:
        return False


def _tail(file: BinaryIO, end: int) -> tuple[int, int]:
    if end < _TAIL.size:
        raise damaged(Path(file.name).name)
    total, length = _TAIL.unpack(os.pread(file.fileno(), _TAIL.size, end - _TAIL.size))
    return total, length


def _thing(tenant: str, upload: str, offset: int) -> Thing:
    return Thing(tenant, "upload", f"{upload}/{offset}")
