"""Files of a place in the bucket, opened if they lie sealed, copied to this machine and verified."""

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from services.kit.bucket_s3 import Bucket
from services.kit.copies import Copies
from services.kit.errors import InvalidValue, NotFound
from services.kit.sealed_objects import SealedObjects

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")


class S3Mirrors:
    """Mirrors of what lies in the installation's bucket; of no other place."""

    def __init__(self, bucket: Bucket, objects: SealedObjects, copies: Copies) -> None:
        self._bucket, self._objects, self._copies = bucket, objects, copies

    @contextlib.asynccontextmanager
    async def hold(self, tenant: str, uri: str, wanted: Mapping[str, str]) -> AsyncIterator[Path]:
        place = uri.removeprefix(f"{self._bucket.uri}/")
        if place == uri or not all(_PART.match(part) for name in (place, *wanted) for part in name.split("/")):
            raise InvalidValue(f"{uri[:200]} is not in the object store of this installation")

        async def fetch(name: str, file: Path) -> None:
            try:
                await self._objects.download(tenant, f"{place}/{name}", file)
            except FileNotFoundError:
                raise NotFound(f"there is no {name[:200]} in its table") from None

        async with self._copies.hold(tenant, wanted, fetch) as folder:
            yield folder
