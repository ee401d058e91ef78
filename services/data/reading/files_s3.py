"""The objects of a bucket of S3, of a server that is not trusted: listed, and read in ranges of what was listed.

An object that is replaced while it is read ends the run: a range of the new one is never taken for one of the old.
"""

import contextlib
import fnmatch
import io
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from services.data.reading import folders, signing_s3
from services.data.reading.buckets import bucket_of
from services.data.reading.files import Raw
from services.data.reading.folders import Parts, Place
from services.data.reading.kinds import FilesSource
from services.data.reading.patience import Patience
from services.data.reading.ranged import Ranged
from services.data.reading.remote import Remote
from services.data.reading.signing_s3 import Key, Object
from services.kit.egress import Response
from services.kit.errors import Code, FailedPrecondition, Failure, InvalidValue

_FILES, _SEEN = 10_000, 200_000  # objects that a pattern may name, and look at
_LIST = 8 * 2**20  # bytes of a page of a list
_BUFFER = 64 * 1024  # bytes
_SENT_BACK = re.compile(r'"[!-~]{0,256}"\Z')  # an ETag that can be a header; what a server says may be anything
_REFUSED = {
    "SignatureDoesNotMatch": "the secret does not fit the access key",
    "InvalidAccessKeyId": "the server does not know the access key",
    "XAdminUserNotFound": "the server does not know the access key",
    "NoSuchBucket": "there is no such bucket",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set the field region",
    "PermanentRedirect": "the bucket is in another region: set the field region",
    "RequestTimeTooSkewed": "the clock of this machine or of the server is wrong",
}


class S3Files:
    """The objects that a pattern names. Their names are paths below the bucket."""

    def __init__(self, source: FilesSource, place: Place, patience: Patience) -> None:
        self._bucket, self._steps = bucket_of(source), place.steps
        if source.access_key and not place.secret:
            raise FailedPrecondition("the access key needs its secret: set the field secret")
        self._key = Key(source.access_key, place.secret, self._bucket.region)
        self._remote = Remote(place, self._bucket.origin, self._bucket.host, self._bucket.port, patience)
        self._found = dict[Parts, Object]()

    def __enter__(self) -> "S3Files":
        return self

    def __exit__(self, *_: Any) -> None:
        self._remote.__exit__()

    def parts(self) -> Sequence[Parts]:
        self._found = {tuple(one.name.split("/")): one for one in self._matching()}
        return sorted(self._found)

    def _matching(self) -> Iterator[Object]:
        count = 0
        for one in self._listed():
            steps = tuple(one.name.split("/"))
            if len(steps) == len(self._steps) and all(map(_fits, steps, self._steps)):
                count += 1
                if count > _FILES:
                    raise Failure(Code.LIMIT_EXCEEDED, f"the pattern names more than {_FILES} files")
                yield one

    def _listed(self) -> Iterator[Object]:
        """All objects below what of the pattern has no wildcard."""
        fixed = next((n for n, step in enumerate(self._steps) if folders.is_pattern((step,))), len(self._steps))
        whole = fixed == len(self._steps)
        begin = "/".join(self._steps) if whole else "".join(f"{step}/" for step in self._steps[:fixed])
        asked = {"list-type": "2", "prefix": begin, "encoding-type": "url", "max-keys": "1" if whole else "1000"}
        if fixed >= len(self._steps) - 1:
            asked["delimiter"] = "/"  # nothing deeper is meant
        more, seen = "", 0
        while True:
            token = {"continuation-token": more} if more else {}
            answer = self._get(f"/{self._bucket.name}", {**asked, **token}, {}, _LIST)
            page = signing_s3.listed(self._checked(answer, self._bucket.name).body)
            yield from page.objects
            seen += max(len(page.objects), 1)
            if whole or page.last:
                return
            if page.more in ("", more):
                text = f"{self._remote.host} lists a part of {self._bucket.name} and does not say how it goes on"
                raise FailedPrecondition(text)
            if seen > _SEEN:
                raise Failure(Code.LIMIT_EXCEEDED, f"the pattern looks at more than {_SEEN} files: name a prefix")
            more = page.more

    @contextlib.contextmanager
    def open(self, part: Parts) -> Iterator[Raw]:
        one = self._found[part]

        def fetch(begin: int, end: int) -> bytes:
            return self._range(one, begin, end)

        file = io.BufferedReader(Ranged(fetch, one.size), _BUFFER)
        yield Raw(cast(BinaryIO, file), one.name, one.size, f"{one.size}:{one.mark}", complete=True)

    def cursor(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        return {"files": states}

    def _range(self, one: Object, begin: int, end: int) -> bytes:
        headers = {"range": f"bytes={begin}-{end - 1}"}
        if _SENT_BACK.match(one.mark):
            headers["if-match"] = one.mark
        answer = self._get(f"/{self._bucket.name}/{one.name}", {}, headers, end - begin)
        if answer.status in (404, 412, 416):
            raise FailedPrecondition(f"{one.name} was replaced or removed while it was read: run it again")
        answer = self._checked(answer, one.name)
        if len(answer.body) != end - begin or (answer.status != 206 and (begin, end) != (0, one.size)):
            raise FailedPrecondition(f"{one.name} has another size than its bucket says, or is given in no ranges")
        return answer.body

    def _get(self, path: str, query: dict[str, str], headers: dict[str, str], most: int) -> Response:
        sent = signing_s3.target(path, query)

        def said() -> dict[str, str]:
            return signing_s3.signed(self._key, self._remote.authority, sent, headers, datetime.now(UTC))

        try:
            # What is refused is said in more bytes than a small range has.
            return self._remote.get(sent, said, max(most, 64 * 1024))
        except Failure as failure:
            if failure.code is not Code.LIMIT_EXCEEDED:
                raise
            raise FailedPrecondition(f"{self._remote.host} sends more than it was asked for") from None

    def _checked(self, answer: Response, what: str) -> Response:
        if answer.status in (200, 206):
            return answer
        word = signing_s3.word_of(answer.body)
        if word in _REFUSED:
            raise InvalidValue(f"{what}: {_REFUSED[word]}")
        if answer.status in (401, 403):
            raise FailedPrecondition(f"{self._remote.host} refuses to give {what}: it needs list and get of objects")
        raise FailedPrecondition(f"{self._remote.host} answers {answer.status} {word} for {what}".replace("  ", " "))


def _fits(name: str, step: str) -> bool:
    if not folders.is_pattern((step,)):
        return name == step
    return bool(name) and fnmatch.fnmatchcase(name, step) and not name.startswith(".")


def place_of(source: FilesSource) -> Place:
    """The steps of the pattern, which lie on a server. Raises invalid_value."""
    found = folders.place((Path("/"),), bucket_of(source).pattern)
    folders.check_pattern(found.steps)
    return found
