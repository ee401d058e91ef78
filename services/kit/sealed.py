"""Bytes of any size, encrypted under a key of their tenant: a head, then chunks that can be opened one by one.

The STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015) with AES-256-GCM: each thing has a key of its own,
derived from the tenant's key, a random salt and the thing's tenant, kind and name. So the chunk's number, and whether
it is the last one, can be the nonce, which never repeats under one key. A chunk that was changed, left out, moved or
taken from another thing or tenant does not open, nor does a thing whose end was cut off.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from services.kit.errors import Code, Failure
from services.kit.timestamps import uuid7

CHUNK = 64 * 1024  # plain bytes
TAG = 16
HEAD = 32
MAGIC = b"\x93AIMsea1"
_SALT = HEAD - len(MAGIC) - 4
_WHOLE = CHUNK + TAG


class Key(NamedTuple):
    """A key of a tenant; numbers start at 1."""

    number: int
    secret: bytes

    def __repr__(self) -> str:
        return f"Key({self.number})"


class Thing(NamedTuple):
    """The identity of sealed bytes: their tenant, their kind, their name among these."""

    tenant: str
    kind: str
    name: str


class Box:
    """Seals and opens the chunks of one thing."""

    def __init__(self, key: Key, thing: Thing, salt: bytes = b"") -> None:
        """Without `salt`: for a thing that is being sealed."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        salt = salt or os.urandom(_SALT)
        self.head = MAGIC + key.number.to_bytes(4, "big") + salt
        self.thing = thing
        # No part of what a thing is called has a zero byte in it.
        about = "\0".join(("aimass sealed 1", *thing)).encode()
        self._cipher = AESGCM(HKDF(SHA256(), 32, salt, about).derive(key.secret))

    def seal(self, index: int, plain: bytes, last: bool) -> bytes:
        """A chunk; all but the last have CHUNK bytes."""
        return self._cipher.encrypt(_nonce(index, last), plain, self.head)

    def open(self, index: int, sealed: bytes, last: bool) -> bytes:
        """The chunk again. Raises digest_mismatch for one that is not as it was sealed."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(_nonce(index, last), sealed, self.head)
        except InvalidTag:
            raise damaged(self.thing.name) from None

    def open_run(self, first: int, sealed: bytes, ends: bool) -> bytes:
        """Chunks that lie behind each other, from a number on; `ends` if the last one is among them."""
        pieces = [sealed[at : at + _WHOLE] for at in range(0, len(sealed), _WHOLE)]
        final = len(pieces) - 1
        return b"".join(self.open(first + n, piece, ends and n == final) for n, piece in enumerate(pieces))


class Sealer:
    """Seals what is written to it, into a file, in pieces of any size."""

    def __init__(self, box: Box, out: BinaryIO) -> None:
        self._box, self._out, self._rest, self._index = box, out, bytearray(), 0
        self._hash = hashlib.sha256()
        out.write(box.head)

    def write(self, plain: bytes) -> None:
        """Keeps the last chunk back, as only `end` knows that it is the last one."""
        self._hash.update(plain)
        self._rest += plain
        while len(self._rest) > CHUNK:
            self._out.write(self._box.seal(self._index, bytes(self._rest[:CHUNK]), False))
            self._index += 1
            del self._rest[:CHUNK]

    def end(self) -> str:
        """Writes the last chunk; returns the digest of the plain bytes."""
        self._out.write(self._box.seal(self._index, bytes(self._rest), True))
        return f"sha256:{self._hash.hexdigest()}"


def sealed_file(folder: Path, box: Box, pieces: Iterable[bytes]) -> Path:
    """A sealed file of a thing whose name is its digest, synced; or none. Raises digest_mismatch."""
    path, name = folder / f"{uuid7()}.sealed", box.thing.name
    try:
        with open(path, "xb") as out:
            sealer = Sealer(box, out)
            for piece in pieces:
                sealer.write(piece)
            if sealer.end() != name:
                raise Failure(Code.DIGEST_MISMATCH, f"the bytes do not hash to {name}")
            out.flush()
            os.fsync(out.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def check_file(path: Path, key: Key, thing: Thing, digest: str) -> None:
    """Opens all of a file. Raises digest_mismatch if it was changed, or its digest does not begin with `digest`."""
    size, found = plain_size(path.stat().st_size, thing.name), hashlib.sha256()
    with open(path, "rb") as file:
        box, index = box_of(file.read(HEAD), key, thing), 0
        while piece := file.read(_WHOLE):
            found.update(box.open(index, piece, (index + 1) * CHUNK >= size))
            index += 1
    if not f"sha256:{found.hexdigest()}".startswith(digest):
        raise damaged(thing.name)


def number_of(head: bytes) -> int:
    """The number of the key in a head; 0 for bytes that are not sealed."""
    return int.from_bytes(head[len(MAGIC) : len(MAGIC) + 4], "big") if head.startswith(MAGIC) else 0


def box_of(head: bytes, key: Key, thing: Thing) -> Box:
    """The box for the chunks after a head. Raises digest_mismatch for a head that is cut off."""
    if len(head) < HEAD:
        raise damaged(thing.name)
    return Box(key, thing, head[HEAD - _SALT : HEAD])


def sealed_size(plain: int) -> int:
    """Sealed bytes of a thing with so many plain ones."""
    return HEAD + plain + TAG * max(1, -(-plain // CHUNK))


def plain_size(sealed: int, name: str) -> int:
    """Plain bytes of a thing with so many sealed ones. Raises digest_mismatch for an impossible number."""
    chunks = max(1, -(-(sealed - HEAD) // _WHOLE))
    plain = sealed - HEAD - TAG * chunks
    if plain < 0 or sealed_size(plain) != sealed:
        raise damaged(name)
    return plain


def chunks_in(begun: int, size: int) -> int:
    """How many chunks are complete in the first `begun` sealed bytes of a thing of `size` plain ones."""
    return max(1, -(-size // CHUNK)) if begun >= sealed_size(size) else max(0, begun - HEAD) // _WHOLE


def span(first: int, count: int, size: int) -> tuple[int, int, bool]:
    """The range of `count` chunks in a thing of `size` plain bytes: begin, end, and whether it has the last one."""
    begin, end, whole = HEAD + first * _WHOLE, HEAD + (first + count) * _WHOLE, sealed_size(size)
    return begin, min(end, whole), end >= whole


def damaged(name: str) -> Failure:
    """The failure for bytes that are not what was sealed."""
    return Failure(Code.DIGEST_MISMATCH, f"{name} has been damaged in its store")


def _nonce(index: int, last: bool) -> bytes:
    return index.to_bytes(11, "big") + bytes([last])
