"""The use cases of attachments."""

import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass

from services.data import archive
from services.data.attachments.domain import Attachment, Kept, State
from services.data.attachments.store import AttachmentStore
from services.data.datasets.masking import Hidden, is_hidden
from services.data.datasets.service import DataSets
from services.data.reading import media
from services.kit.auth import Principal, Scope
from services.kit.blobs import Blobs
from services.kit.digests import name_of
from services.kit.errors import InvalidValue, NotFound, Violation
from services.kit.pages import Page

_HEAD, _SHOWN = 2**20, 4096  # bytes that are looked at, characters of a text


@dataclass(frozen=True)
class Preview:
    """A file with what its first bytes tell: `size` in pixels of images, `text` of texts."""

    kept: Kept
    columns: tuple[str, ...]
    size: tuple[int, int] | None
    text: str | None


class Attachments:
    """The use cases; who may read the rows of a data set may read its files, but those of masked columns."""

    def __init__(self, store: AttachmentStore, data_sets: DataSets, blobs: Blobs) -> None:
        self._store, self._data_sets, self._blobs = store, data_sets, blobs

    async def list(
        self, principal: Principal, scope: Scope, data_set: str, state: State | None, page_size: int, page_token: str
    ) -> Page[Attachment]:
        """What became of the places that the columns name. Raises not_found."""
        hidden = await self._columns(scope, data_set, await self._hidden(principal, scope, data_set))
        return await self._store.list(scope, data_set, state, hidden, page_size, page_token)

    async def _hidden(self, principal: Principal, scope: Scope, data_set: str) -> Hidden:
        await self._data_sets.get(scope, data_set)
        return await self._data_sets.hidden(principal, data_set)

    async def _columns(self, scope: Scope, data_set: str, hidden: Hidden) -> Hidden:
        """Those of its columns with files that are hidden, as they are written: not all databases know lower case."""
        known = await self._store.columns(scope, data_set) if hidden else ()
        return frozenset(name for name in known if is_hidden(name, hidden))

    async def preview(self, principal: Principal, scope: Scope, data_set: str, digest: str) -> Preview:
        """A file, and what its first bytes tell. Raises not_found, digest_mismatch."""
        seen, head = await self._file(principal, scope, data_set, digest), b""
        kept = min(seen, key=lambda one: one.create_time)
        async for piece in self._blobs.read(scope.tenant, digest):
            head += piece
            if len(head) >= _HEAD:
                break
        head = head[:_HEAD]
        whole = kept.bytes <= len(head)
        text = (
            media.text(head, whole) if kept.media_type.startswith("text/") or kept.media_type in media.TEXTS else None
        )
        columns = tuple(sorted({one.digests for one in seen}))
        return Preview(kept, columns, media.size_of(head, kept.media_type), None if text is None else text[:_SHOWN])

    async def read(
        self, principal: Principal, scope: Scope, data_set: str, digest: str, offset: int
    ) -> AsyncIterator[bytes]:
        """The bytes of a file from an offset on. Raises not_found, wrong_offset, digest_mismatch."""
        await self._file(principal, scope, data_set, digest)
        async for piece in self._blobs.read(scope.tenant, digest, offset):
            yield piece

    async def stream(
        self, principal: Principal, scope: Scope, data_set: str, digests: Sequence[str], after: str, most: int
    ) -> AsyncIterator[bytes]:
        """A tar archive of the files of these digests, or of all behind one; `most` files, all for 0.

        Raises not_found before the first bytes; invalid_value, digest_mismatch.
        """
        if most < 0:
            raise InvalidValue("max_files is negative", [Violation("/max_files", "must not be negative")])
        for digest in (*digests, *([after] if after else [])):
            name_of(scope.tenant, digest)
        hidden = await self._columns(scope, data_set, await self._hidden(principal, scope, data_set))
        left = most or sys.maxsize
        async with contextlib.aclosing(self._files(scope, data_set, hidden, digests, after)) as files:
            async for digest, size in files:
                if (left := left - 1) < 0:
                    break
                yield archive.begin(digest.removeprefix("sha256:"), size)
                async for piece in self._blobs.read(scope.tenant, digest):
                    yield piece
                yield archive.fill(size)
        yield archive.END

    async def _files(
        self, scope: Scope, data_set: str, hidden: Hidden, digests: Sequence[str], after: str
    ) -> AsyncGenerator[tuple[str, int]]:
        if digests:
            found = dict(await self._store.page(scope, data_set, hidden, "", digests))
            if missing := next((digest for digest in digests if digest not in found), ""):
                raise NotFound(f"the data set {data_set} has no file {missing}")
            for digest in digests:
                yield digest, found[digest]
            return
        while page := await self._store.page(scope, data_set, hidden, after):
            for digest, size in page:
                yield digest, size
            after = page[-1][0]

    async def _file(self, principal: Principal, scope: Scope, data_set: str, digest: str) -> Sequence[Kept]:
        name_of(scope.tenant, digest)
        hidden = await self._hidden(principal, scope, data_set)
        found = await self._store.file(scope, data_set, digest)
        seen = [one for one in found if not (is_hidden(one.column, hidden) or is_hidden(one.digests, hidden))]
        if not seen:
            raise NotFound(f"the data set {data_set} has no file {digest}")
        return seen
