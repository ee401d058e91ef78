"""Records of a frame under the keys of their tenants: one run for each tenant, which opens there and nowhere else.

A sealed block is a byte that no plain one begins with, then runs: how many records, how many bytes are sealed, how long
the tenant's name is (4, 4, 1), the name, the head (`kit.sealed`), the sealed bytes. A run is sealed for its tenant, its
segment and the number of its frame's first record. One whose head is zeros had a tenant that is forgotten.
"""

import asyncio
import contextlib
import logging
import struct
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeVar

from services.kit import tenancy
from services.kit.auth import SYSTEM
from services.kit.errors import Code, FailedPrecondition, Failure
from services.kit.sealed import HEAD, Box, Key, Thing, box_of, number_of
from services.kit.tenant_keys import KeyMissing, KeysDestroyed, TenantKeys
from services.logs.encoding import pack, unpack
from services.logs.ingest.segments import Frame
from services.logs.tables import Kept, size, whose

log = logging.getLogger(__name__)
KIND = "records"
_SEALED = b"\x02"  # what zlib makes begins with another
_RUN = struct.Struct("<IIB")
_AT_ONCE = 16  # keys that are on their way at a time
Parts = Mapping[str, Sequence[Kept]]
Named = tuple[str, int]  # a key: its tenant and its number
N = TypeVar("N", str, Named)


class Run(NamedTuple):
    """So many records of one tenant, and where in the block it lies, from its name on."""

    size: int
    tenant: str
    head: bytes
    sealed: bytes
    at: int
    end: int

    @property
    def key(self) -> Named:
        """What opens it."""
        return self.tenant, number_of(self.head)

    @property
    def is_there(self) -> bool:
        """Whether its tenant is not forgotten."""
        return any(self.head)


class Sealing:
    """Makes blocks of records, and records of blocks. Without keys blocks are plain; plain ones are always read."""

    def __init__(self, keys: TenantKeys | None) -> None:
        self._keys = keys
        # What seals in the present segment. A head, and with it a key, is one process's for one segment, and there no
        # number of a frame comes twice: after a failure, when one may, there are others.
        self._segment, self._boxes = -1, dict[Named, Box]()
        self._told = set[object]()
        self.damaged = 0

    async def current(self, tenants: Iterable[str]) -> Mapping[str, Key]:
        """What seals now for each of tenants; nothing for those whose keys are destroyed.

        Keys that this process has are taken as they are; others are fetched, or made, some at the same time.
        Raises unavailable while their store is away, failed_precondition for one that does not open.
        """
        if (keys := self._keys) is None:
            return {}
        return await _each(set(map(_owner, tenants)), keys.held, keys.current)

    def parts(self, records: Sequence[Kept], keys: Mapping[str, Key]) -> Parts:
        """Records by whom they are sealed for, in the order in which they are kept; none of those who have no key."""
        if self._keys is None:
            return {"": records} if records else {}
        found: dict[str, list[Kept]] = {}
        for one in records:
            if (tenant := _owner(whose(one))) in keys:
                found.setdefault(tenant, []).append(one)
        return found

    def block(self, parts: Parts, keys: Mapping[str, Key], segment: int, sequence: int) -> bytes:
        """The bytes of a frame, whose first record has this number."""
        if self._keys is None:
            return pack([one for records in parts.values() for one in records])
        if segment != self._segment:
            self.anew()
            self._segment = segment
        pieces = [_SEALED]
        for tenant, records in parts.items():
            key = keys[tenant]
            if not (box := self._boxes.get((tenant, key.number))):
                box = self._boxes[tenant, key.number] = Box(key, _thing(tenant, segment))
            sealed, name = box.seal(sequence, pack(records), True), tenant.encode()
            pieces += [_RUN.pack(sum(map(size, records)), len(sealed), len(name)), name, box.head, sealed]
        return b"".join(pieces)

    def anew(self) -> None:
        """Seals with other heads from now on, and lets go of what keys were derived to."""
        self._boxes.clear()

    async def opening(self, wanted: Collection[Named]) -> Mapping[Named, Key]:
        """The keys that there are of those that runs were sealed with. Raises as `current`.

        One that is missing though its tenant's keys are not destroyed is damage: it must not hold up all that follows.
        """
        if not wanted:
            return {}
        if (keys := self._keys) is None:
            raise FailedPrecondition("records lie sealed, and AIMASS_SECRETS_KEY is not set here")

        async def find(named: Named) -> Key | None:
            try:
                return await keys.find(*named)
            except KeyMissing as missing:
                self._report(named, f"records cannot be read: {missing}")
                return None

        return await _each(wanted, lambda named: keys.held(*named), find)

    def records(self, frame: Frame, keys: Mapping[Named, Key], boxes: dict[bytes, Box]) -> Iterator[tuple[int, Kept]]:
        """The records of a frame with their numbers, as far as there are keys. `boxes` keeps what frames have alike."""
        if not is_sealed(frame.block):
            yield from numbered(frame.sequence, unpack(frame.block))
            return
        number = frame.sequence
        for run in runs(frame.block):
            if key := keys.get(run.key):
                yield from numbered(number, self._open(run, frame, key, boxes))
            number += run.size

    def _open(self, run: Run, frame: Frame, key: Key, boxes: dict[bytes, Box]) -> Sequence[Kept]:
        thing = _thing(run.tenant, frame.at.segment)
        box = boxes.get(run.head)
        if box is None or box.thing != thing:
            box = boxes[run.head] = box_of(run.head, key, thing)
        try:
            found = unpack(box.open(frame.sequence, run.sealed, True))
        except Failure as failure:
            if failure.code is not Code.DIGEST_MISMATCH:
                raise
            found = []
        if sum(map(size, found)) != run.size:
            where = frame.at, run.at
            self._report(where, f"records of {run.tenant} in segment {where[0].segment} were changed, and are not read")
            return []
        return found

    def _report(self, what: object, text: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self.damaged += 1
            log.error("%s", text)


def is_sealed(block: bytes) -> bool:
    """Whether a block is of runs."""
    return block.startswith(_SEALED)


def runs(block: bytes) -> Iterator[Run]:
    """Those of a block; none of one that is plain."""
    at = len(_SEALED)
    while is_sealed(block) and at < len(block):
        many, length, named = _RUN.unpack_from(block, at)
        begin = at + _RUN.size
        head = begin + named
        sealed = head + HEAD
        at = sealed + length
        # Zeros are a name as well, of nobody.
        tenant = block[begin:head].decode(errors="replace")
        yield Run(many, tenant, block[head:sealed], block[sealed:at], begin, at)


def without(tenants: Collection[str], block: bytes) -> bytes | None:
    """A block of the same length in which nothing is left of some; None where all are others'. Opens none of it."""
    if not (gone := [run for run in runs(block) if run.tenant in tenants]):
        return None
    data = bytearray(block)
    for run in gone:
        data[run.at : run.end] = bytes(run.end - run.at)
    return bytes(data)


def numbered(sequence: int, records: Sequence[Kept]) -> Iterator[tuple[int, Kept]]:
    """Records, or tables of some, each with the number of its first."""
    return zip(accumulate(map(size, records), initial=sequence), records, strict=False)


def _thing(tenant: str, segment: int) -> Thing:
    return Thing(tenant, KIND, str(segment))


def _owner(tenant: str) -> str:
    """Under whose key records lie: of what is no tenant's name, and has no keys, under those of the house."""
    return tenant if tenancy.is_name(tenant) else SYSTEM


async def _each(
    names: Collection[N], held: Callable[[N], Key | None], ask: Callable[[N], Awaitable[Key | None]]
) -> Mapping[N, Key]:
    """The keys that are held, and of those that are not what asking for them gives; none that is destroyed."""
    found, lacking = dict[N, Key](), list[N]()
    for name in names:
        try:
            if key := held(name):
                found[name] = key
            else:
                lacking.append(name)
        except KeysDestroyed:
            continue
    if not lacking:
        return found
    gate = asyncio.Semaphore(_AT_ONCE)

    async def fetch(name: N) -> None:
        with contextlib.suppress(KeysDestroyed):
            async with gate:
                if key := await ask(name):
                    found[name] = key

    await asyncio.gather(*map(fetch, lacking))
    return found
