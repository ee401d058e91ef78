"""What an endpoint answers to a GET, as one file: all its pages, asked for when it is first opened.

Its server is not trusted: bytes and pages are bounded, and only its own address is asked, whatever a page says.
"""

import contextlib
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import orjson

from services.data.reading import endpoints, paths
from services.data.reading.endpoints import endpoint_of
from services.data.reading.files import Raw
from services.data.reading.folders import Parts, Place
from services.data.reading.kinds import FileFormat, FilesSource
from services.data.reading.patience import Patience
from services.data.reading.remote import Remote
from services.kit.egress import Response
from services.kit.errors import Code, FailedPrecondition, Failure, InvalidValue

_BYTES, _PAGES, _SAMPLED = 64 * 2**20, 1000, 10
_SENT_BACK = re.compile(r"[ -~]{1,256}\Z")  # what a server says may be anything, and what it is sent is a header
_JOINED = (FileFormat.JSON, FileFormat.JSON_LINES)


class HttpFiles:
    """One file. Of records that grow by a value, only those above the last one."""

    def __init__(self, source: FilesSource, place: Place, patience: Patience, cursor: dict[str, Any] | None) -> None:
        """`cursor`: None for a sample, which has the first pages only: all of them may take minutes."""
        if source.header_name and not place.secret:
            raise FailedPrecondition("the header needs its value: set the field secret")
        self._source, self._endpoint = source, endpoint_of(source)
        self._sent = {(source.header_name or "authorization").lower(): place.secret} if place.secret else {}
        self._remote = Remote(place, self._endpoint.origin, self._endpoint.host, self._endpoint.port, patience)
        self._name = self._endpoint.name
        self._sample, cursor = cursor is None, cursor or {}
        self._known = next((str(state["stamp"]) for state in cursor.get("files", [])), "")
        self._after = cursor.get("after") if source.since_path else None
        self._answer: tuple[bytes, str] | None = None

    def __enter__(self) -> "HttpFiles":
        return self

    def __exit__(self, *_: Any) -> None:
        self._remote.__exit__()

    def parts(self) -> Sequence[Parts]:
        return [tuple(self._name.split("/"))]

    @contextlib.contextmanager
    def open(self, part: Parts) -> Iterator[Raw]:
        self._answer = self._answer or self._asked()
        body, stamp = self._answer
        yield Raw(io.BytesIO(body), self._name, len(body), stamp, complete=True)

    def cursor(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        return {"files": [], "after": self._after} if self._source.since_path else {"files": states}

    def _asked(self) -> tuple[bytes, str]:
        """The file, and what changes with it; nothing of one that the server says is as it was."""
        etag, modified = ([*self._known.split("\t"), "", ""])[:2]
        said = {"if-none-match": etag, "if-modified-since": modified}
        conditions = {name: value for name, value in said.items() if value}
        since = {self._source.since_parameter: str(self._after)} if self._source.since_parameter else {}
        target = self._endpoint.at(since if self._after is not None else {})
        answer = self._get(target, conditions, _BYTES)
        if answer.status == 304 and conditions:
            return b"", self._known
        pages = self._pages(target, self._checked(answer))
        body = self._joined(pages)
        # Of several pages, the first does not tell whether the others are as they were.
        said_of_it = [answer.headers.get(name, "") for name in ("etag", "last-modified")]
        marks = [value if _SENT_BACK.match(value) else "" for value in said_of_it]
        kept = marks if len(pages) == 1 and not self._source.since_path else ["", ""]
        return body, "\t".join([*kept, hashlib.sha256(body).hexdigest()])

    def _pages(self, target: str, answer: Response) -> list[bytes]:
        found, seen, size = [answer.body], {target}, len(answer.body)
        while following := self._next(target, answer):
            if self._sample and len(found) == _SAMPLED:
                break
            if following in seen:
                raise FailedPrecondition(f"{self._remote.host} names a page as the next that was read already")
            if len(seen) == _PAGES:
                raise Failure(Code.LIMIT_EXCEEDED, f"there are more than {_PAGES} pages: ask for less by the query")
            seen.add(following)
            target, answer = following, self._checked(self._get(following, {}, _BYTES - size))
            found.append(answer.body)
            size += len(answer.body)
        return found

    def _next(self, target: str, answer: Response) -> str:
        """The target of the page behind one; empty behind the last."""
        source, link = self._source, endpoints.linked(answer.headers.get("link", ""))
        if source.next_path:
            word = paths.find(self._document(answer.body), paths.parse(source.next_path))
            if not isinstance(word, str | int) or isinstance(word, bool) or word == "":
                return ""
            if source.next_parameter:
                # Behind the page that was asked for: what said from which value on is said again.
                return replace(self._endpoint, target=target).at({source.next_parameter: str(word)})
            link = str(word)
        if not link:
            return ""
        if source.format not in _JOINED:
            raise FailedPrecondition("the answer has a next page, and pages are followed in json and json_lines only")
        return self._endpoint.joined(target, link)

    def _joined(self, pages: list[bytes]) -> bytes:
        source = self._source
        if source.format is FileFormat.JSON_LINES:
            return b"".join(page if page.endswith(b"\n") or not page else page + b"\n" for page in pages)
        if len(pages) == 1 and not source.records_path and not source.since_path:
            return pages[0]
        records = list[Any]()
        for page in pages:
            document = self._document(page)
            found = paths.find(document, paths.parse(source.records_path)) if source.records_path else document
            if not isinstance(found, list):
                raise FailedPrecondition(f"{source.records_path or 'the answer'} is no array: set records_path")
            records += found
        if source.since_path and not (records := self._behind(records)):
            return b""
        return orjson.dumps(records)

    def _behind(self, records: list[Any]) -> list[Any]:
        """The records above the largest value that was read."""
        path = paths.parse(self._source.since_path)
        values = [paths.find(record, path) for record in records]
        new = endpoints.above(values, self._after, self._source.since_path)
        self._after = max((value for value, one in zip(values, new, strict=True) if one), default=self._after)
        return [record for record, one in zip(records, new, strict=True) if one]

    def _document(self, body: bytes) -> Any:
        try:
            return orjson.loads(body.removeprefix(b"\xef\xbb\xbf"))
        except orjson.JSONDecodeError:
            raise FailedPrecondition(f"{self._remote.host} answers with no JSON document") from None

    def _get(self, target: str, headers: dict[str, str], most: int) -> Response:
        try:
            return self._remote.get(target, lambda: {**self._sent, **headers}, most)
        except Failure as failure:
            if failure.code is not Code.LIMIT_EXCEEDED:
                raise
            text = f"{self._remote.host} answers with more than {_BYTES // 2**20} MiB: ask for less by the query"
            raise Failure(Code.LIMIT_EXCEEDED, text) from None

    def _checked(self, answer: Response) -> Response:
        host, status = self._remote.host, answer.status
        if status == 200:
            return answer
        if status in (401, 403):
            raise FailedPrecondition(f"{host} answers {status}: it refuses the secret, or needs one")
        if status in (301, 302, 303, 307, 308):
            raise InvalidValue(f"{host} answers {status}: write the address that it leads to, as it is not followed")
        raise FailedPrecondition(f"{host} answers {status} for {self._endpoint.target.partition('?')[0]}")
