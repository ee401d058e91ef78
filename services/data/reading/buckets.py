"""Which bucket of which server the pattern of a source names. Pure."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from services.data.reading.kinds import FilesSource
from services.kit.errors import InvalidValue

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_REGION = re.compile(r"[a-z0-9-]{1,64}\Z")
_KEY = re.compile(r"[!-~]{1,128}\Z")


@dataclass(frozen=True)
class Bucket:
    """A bucket; `origin` is the server without a path, `pattern` what the names of objects have to match."""

    origin: str
    host: str
    port: int
    region: str
    name: str
    pattern: str

    @property
    def identity(self) -> str:
        """What a cursor belongs to."""
        return f"{self.origin}/{self.name}"


def bucket_of(source: FilesSource) -> Bucket:
    """What `s3://bucket/pattern` and the fields beside it name. Raises invalid_value."""
    name, _, pattern = source.pattern.removeprefix("s3://").partition("/")
    region = source.region or "us-east-1"
    if not _NAME.match(name) or not pattern:
        raise InvalidValue("the pattern must be s3://bucket/prefix/*.csv: a bucket, and what names its objects")
    if not _REGION.match(region):
        raise InvalidValue("the region must be a word such as us-east-1")
    if source.access_key and not _KEY.match(source.access_key):
        raise InvalidValue("the access_key must have visible ASCII characters only")
    try:
        parts = urlsplit(source.endpoint or f"https://s3.{region}.amazonaws.com")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or parts.scheme not in ("https", "http") or parts.path.strip("/") or parts.query or "@" in parts.netloc:
        raise InvalidValue("the endpoint must be https://host:port, with nothing behind it")
    port = port or (443 if parts.scheme == "https" else 80)
    return Bucket(f"{parts.scheme}://{parts.netloc}", host, port, region, name, pattern)
