"""Which endpoint a source polls, and which page comes next. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from services.data.reading import paths
from services.data.reading.kinds import FileFormat, FilesSource
from services.kit.errors import FailedPrecondition, InvalidValue

_VISIBLE = re.compile(r"[!-~]+\Z")
_LINK = re.compile(r"<([^<>]{1,4096})>([^<>]{0,512})")
_NEXT = re.compile(r""";\s*rel\s*=\s*(?:"(?:[^"]*\s)?next(?:\s[^"]*)?"|next\b)""", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}\Z")
# What the client or the protocol sets.
_TAKEN = "accept-encoding connection content-length host if-modified-since if-none-match te transfer-encoding".split()  # noqa: SIM905
_PATHS = ("records_path", "next_path", "since_path")
FIELDS = ("header_name", *_PATHS, "next_parameter", "since_parameter")


@dataclass(frozen=True)
class Endpoint:
    """An address; `target` is its path with the query."""

    origin: str
    host: str
    port: int
    target: str

    @property
    def identity(self) -> str:
        """What a cursor belongs to."""
        return f"{self.origin}{self.target}"

    @property
    def name(self) -> str:
        """What its records are called."""
        return f"{self.host}{self.target.partition('?')[0]}".rstrip("/")

    def at(self, parameters: Mapping[str, str]) -> str:
        """The target with parameters of the query set."""
        path, _, query = self.target.partition("?")
        kept = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name not in parameters]
        return f"{path}?{urlencode([*kept, *parameters.items()])}" if parameters else self.target

    def joined(self, target: str, link: str) -> str:
        """The target that a page at `target` calls the next. Raises failed_precondition if it is of another server."""
        try:
            parts = urlsplit(urljoin(f"{self.origin}{target}", link))
            origin = f"{parts.scheme}://{parts.netloc}"
        except ValueError:
            origin = ""
        if origin != self.origin or not _VISIBLE.match(link):
            raise FailedPrecondition(f"the next page is not on {self.origin}: only that server is asked")
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def endpoint_of(source: FilesSource) -> Endpoint:
    """What the pattern of a source names. Raises invalid_value."""
    try:
        parts = urlsplit(source.pattern)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        host, port = "", 0
    if not host or "@" in parts.netloc or "#" in source.pattern or not _VISIBLE.match(source.pattern):
        raise InvalidValue("the pattern must be an address such as https://host/path?query, without a password")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Endpoint(f"{parts.scheme}://{parts.netloc}", host, port, target)


def linked(header: str) -> str:
    """The next page by a Link header; empty where it names none."""
    return next((link for link, said in _LINK.findall(header[:8192]) if _NEXT.search(said)), "")


def above(values: list[Any], after: Any, path: str) -> list[bool]:
    """Which values are above one. Raises failed_precondition where they cannot be compared."""
    known = [*values, *([] if after is None else [after])]
    texts = {isinstance(value, str) for value in known}
    if len(texts) > 1 or any(isinstance(value, bool) or not isinstance(value, str | int | float) for value in known):
        raise FailedPrecondition(f"{path} must be a number in each record, or a text in each")
    return [after is None or value > after for value in values]


def check(source: FilesSource) -> None:
    """Raises invalid_value for what no endpoint can be asked with."""
    if source.header_name and (not _NAME.match(source.header_name) or source.header_name.lower() in _TAKEN):
        raise InvalidValue(f"{source.header_name} is no header that a secret is sent in")
    if not re.fullmatch(r"[ -~]*", source.secret) or source.secret != source.secret.strip():
        raise InvalidValue("the secret must have visible ASCII characters, and spaces only between them")
    for name in _PATHS:
        path = getattr(source, name)
        if path and source.format is not FileFormat.JSON:
            raise InvalidValue(f"{name} is for files of format json")
        if path and (not path.startswith("$") or paths.EACH in paths.parse(path)):
            raise InvalidValue(f"{name} must be a path such as $.items, to one place")
    if source.next_parameter and not source.next_path:
        raise InvalidValue("next_parameter needs a next_path")
    if source.since_parameter and not source.since_path:
        raise InvalidValue("since_parameter needs a since_path")
