"""Sealed blocks: the records of a frame under the keys of their tenants, one run for each tenant.

A sealed block is a byte that no plain block begins with, then runs: the number of records, the number of sealed bytes,
the length of the tenant's name (4, 4, 1 bytes), the name, the head (`kit.sealed`), the sealed bytes. A run is bound to
its tenant, its segment and the number of its frame's first record. The head of a forgotten tenant's run is zeros.
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
from services.kit.errors import Code, FailedPrecondition, Failure, Unavailable
from services.kit.sealed import HEAD, Box, Key, Thing, box_of, number_of
from services.kit.tenant_keys import KeyMissing, KeysDestroyed, TenantKeys
from services.logs.encoding import pack, unpack
from services.logs.ingest.segments import Frame
from services.logs.tables import Kept, size, tenant_of

log = logging.getLogger(__name__)
KIND = "records"
_SEALED = b"\x02"  # no zlib or XZ stream begins with it
_RUN = struct.Struct("<IIB")
_AT_ONCE = 16  # keys that are fetched at the same time
_PATIENCE = 2.0  # seconds for those of a batch: meanwhile the records of all tenants wait
_AGAIN = 5.0  # seconds until a key that could not be fetched is fetched again
Parts = Mapping[str, Sequence[Kept]]
Named = tuple[str, int]  # a key: its tenant and its number
N = TypeVar("N", str, Named)


class Run(NamedTuple):
    """The records of one tenant in a block: how many, and the offsets of the run from its name on."""

    size: int
    tenant: str
    head: bytes
    sealed: bytes
    at: int
    end: int

    @property
    def key(self) -> Named:
        """The key that opens it."""
        return self.tenant, number_of(self.head)

    @property
    def is_there(self) -> bool:
        """Whether its tenant is not forgotten."""
        return any(self.head)


class Sealing:
    """Seals records into blocks and opens them. Without keys blocks are plain; plain blocks are always read."""

    def __init__(self, keys: TenantKeys | None) -> None:
        self._keys = keys
        # The boxes of the present segment. The number of a frame is the nonce, so a box must not see it twice: each is
        # for one segment, and after a failure, when a number may come again, there are new ones.
        self._segment, self._boxes = -1, dict[Named, Box]()
        self._lacking: dict[str, tuple[float, Exception]] = {}  # when a key could not be fetched, and why
        self._reported = set[object]()
        self.damaged = 0

    async def current(self, tenants: Iterable[str]) -> tuple[Mapping[str, Key], Mapping[str, Exception]]:
        """The current keys of tenants, without those whose keys are destroyed; and why the others cannot be had now.

        Cached keys are used as they are; others are fetched or created, which takes two seconds at most.
        """
        if (keys := self._keys) is None:
            return {}, {}
        clock = asyncio.get_running_loop().time
        began = clock()
        before = {tenant: (at, why) for tenant, (at, why) in self._lacking.items() if began - at < _AGAIN}
        lacking = dict[str, tuple[float, Exception]]()

        async def fetch(tenant: str) -> Key | None:
            if tenant in before:
                lacking[tenant] = before[tenant]
                return None
            try:
                async with asyncio.timeout_at(began + _PATIENCE):
                    return await keys.current(tenant)
            except KeysDestroyed:
                raise
            except (Failure, OSError) as error:  # also TimeoutError
                why = error if str(error) else Unavailable(f"the key of {tenant} cannot be fetched")
                lacking[tenant] = clock(), why
                return None

        found = await _each(set(map(owner, tenants)), keys.held, fetch)
        self._lacking = before | lacking
        return found, {tenant: why for tenant, (_, why) in lacking.items()}

    def parts(self, records: Sequence[Kept], keys: Mapping[str, Key]) -> Parts:
        """Records by the tenant that they are sealed for, without those of tenants that have no key."""
        if self._keys is None:
            return {"": records} if records else {}
        found: dict[str, list[Kept]] = {}
        for one in records:
            if (tenant := owner(tenant_of(one))) in keys:
                found.setdefault(tenant, []).append(one)
        return found

    def block(self, parts: Parts, keys: Mapping[str, Key], segment: int, sequence: int) -> bytes:
        """The block of a frame whose first record has this number."""
        if self._keys is None:
            return pack([one for records in parts.values() for one in records])
        if segment != self._segment:
            self.renew()
            self._segment = segment
        pieces = [_SEALED]
        for tenant, records in parts.items():
            key = keys[tenant]
            if not (box := self._boxes.get((tenant, key.number))):
                box = self._boxes[tenant, key.number] = Box(key, _thing(tenant, segment))
            sealed, name = box.seal(sequence, pack(records), True), tenant.encode()
            pieces += [_RUN.pack(sum(map(size, records)), len(sealed), len(name)), name, box.head, sealed]
        return b"".join(pieces)

    def renew(self) -> None:
        """Drops the boxes: new ones have other heads, and so other derived keys."""
        self._boxes.clear()

    async def opening(self, wanted: Collection[Named]) -> Mapping[Named, Key]:
        """The keys that runs were sealed with, without destroyed ones.

        Raises unavailable while the store of keys is away, failed_precondition for a key that cannot be unwrapped. A
        key that is missing though its tenant's keys are not destroyed is reported as damage, and its runs are skipped:
        they must not stop all that follows.
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
        """The records of a frame that there are keys for, with their numbers. `boxes` caches boxes between frames."""
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
        if what not in self._reported:
            self._reported.add(what)
            self.damaged += 1
            log.error("%s", text)


def is_sealed(block: bytes) -> bool:
    """Whether a block is sealed."""
    return block.startswith(_SEALED)


def runs(block: bytes) -> Iterator[Run]:
    """The runs of a block; none of a plain one."""
    at = len(_SEALED)
    while is_sealed(block) and at < len(block):
        many, length, named = _RUN.unpack_from(block, at)
        begin = at + _RUN.size
        head = begin + named
        sealed = head + HEAD
        at = sealed + length
        # The name of a forgotten tenant is zeros.
        tenant = block[begin:head].decode(errors="replace")
        yield Run(many, tenant, block[head:sealed], block[sealed:at], begin, at)


def without(tenants: Collection[str], block: bytes) -> bytes | None:
    """A block of the same length with the runs of some tenants zeroed; None if it has none. Opens nothing."""
    if not (gone := [run for run in runs(block) if run.tenant in tenants]):
        return None
    data = bytearray(block)
    for run in gone:
        data[run.at : run.end] = bytes(run.end - run.at)
    return bytes(data)


def numbered(sequence: int, records: Sequence[Kept]) -> Iterator[tuple[int, Kept]]:
    """Records and tables, each with its number or that of its first record."""
    return zip(accumulate(map(size, records), initial=sequence), records, strict=False)


def _thing(tenant: str, segment: int) -> Thing:
    return Thing(tenant, KIND, str(segment))


def owner(tenant: str) -> str:
    """The tenant whose key records are sealed with: system's for what cannot be a tenant's name."""
    return tenant if tenancy.is_name(tenant) else SYSTEM


async def _each(
    names: Collection[N], held: Callable[[N], Key | None], ask: Callable[[N], Awaitable[Key | None]]
) -> Mapping[N, Key]:
    """Cached keys by `held`, the others by `ask`, without those that are destroyed."""
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
