"""A file of chunks that lie sealed one behind the other, as they came: an upload on its way.

Each chunk is a thing of its own, named by its upload and offset, so none can be moved, repeated or left out. Behind it
stand how many plain bytes there are by then, and how long it is: what comes next is found without a look at the rest.
"""

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from services.kit.sealed import HEAD, Box, Key, Sealer, Thing, box_of, damaged, number_of

_TAIL = struct.Struct(">QI")


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
    """Whether the chunks of a file lie sealed."""
    with open(path, "rb") as file:
        return number_of(file.read(HEAD)) > 0


def may_be_in(path: Path) -> bool:
    """The same; of a file without chunks as well."""
    return not path.stat().st_size or are_in(path)


def size_of(path: Path) -> int:
    """Plain bytes in the file."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        return _tail(file, end)[0] if end else 0


def places(path: Path) -> list[Place]:
    """Where the chunks of a file lie, in their order. Raises digest_mismatch for a file of something else."""
    found: list[Place] = []
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
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


def _tail(file: BinaryIO, end: int) -> tuple[int, int]:
    if end < _TAIL.size:
        raise damaged(Path(file.name).name)
    total, length = _TAIL.unpack(os.pread(file.fileno(), _TAIL.size, end - _TAIL.size))
    return total, length


def _thing(tenant: str, upload: str, offset: int) -> Thing:
    return Thing(tenant, "upload", f"{upload}/{offset}")
