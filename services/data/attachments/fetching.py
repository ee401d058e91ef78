"""Fetches one file from a server that is not trusted: whatever it says, what it sends is looked at and bounded."""

import asyncio
import time
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

from services.data.attachments.domain import Outcome, State
from services.data.attachments.parts import Part
from services.data.reading import media
from services.data.reading.downloads import Download
from services.kit.egress import Egress, Streamed
from services.kit.errors import Code, Failure

LONGEST = 2048  # characters of a URL
_REDIRECTS = 5
_MOVED, _BUSY = (301, 302, 303, 307, 308), (408, 425, 429)
_IDLE = 15.0  # seconds between two pieces, and until the first
_BEGIN, _SLOWEST = 60.0, 2**18  # seconds that each file has, and bytes that a second more is for
_WAIT, _MOST_WAIT = 0.5, 10.0  # seconds between tries
_MISFITS = 20  # files
_TOLD = 4096  # bytes that say what most files are
_TEXT = ("text/", "application/octet-stream", "application/json", "application/xml")


class Passing(Exception):
    """What another try may change."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.wait = reason, wait


class FullError(Exception):
    """The run has no room for a file, whatever its server does."""


class Room:
    """Bytes that all files of a run may have together."""

    def __init__(self, most: int) -> None:
        self._left, self._misfits = most, 0
        self.reason = f"the files of one run have at most {most // 2**20} MiB"

    @property
    def is_spent(self) -> bool:
        """Whether so many files had no room that servers are not to be asked for more of them."""
        return self._misfits >= _MISFITS

    def take(self, size: int) -> None:
        """Raises full where there is no room for so many."""
        if size > max(self._left, 0):
            self._misfits += 1
            raise FullError(self.reason)
        self._left -= size

    def give_back(self, size: int) -> None:
        """Bytes of what is not kept."""
        self._left += size


def refused(reason: str) -> Outcome:
    """Another try would end as this one."""
    return Outcome(State.REFUSED, reason)


def failed(reason: str) -> Outcome:
    """Another try may succeed."""
    return Outcome(State.FAILED, reason)


class Fetch:
    """One file on its way."""

    def __init__(
        self, egress: Egress, download: Download, part: Part, room: Room, kept: Callable[[Part], None]
    ) -> None:
        self._egress, self._download, self._part, self._room, self._kept = egress, download, part, room, kept
        self._taken = 0
        # Whether its server is why it failed, and not the run.
        self.let_down = False

    async def run(self, url: str, until: float) -> Outcome:
        """What becomes of a URL; `until`: when the run has to be ready, by the monotonic clock. Raises storage_full."""
        if len(url) > LONGEST:
            return refused(f"the URL has more than {LONGEST} characters")
        until = min(until, time.monotonic() + _BEGIN + self._download.most / _SLOWEST)
        outcome = failed("the run has no time left")
        try:
            for again in range(self._download.attempts):
                if (left := until - time.monotonic()) <= 0:
                    break
                wait = _WAIT * 2**again
                try:
                    async with asyncio.timeout(left):
                        outcome = await self._try(url)
                except FullError as full:
                    outcome, self.let_down = failed(str(full)), False
                    break
                except Passing as passing:
                    outcome, wait = failed(passing.reason), passing.wait or wait
                except TimeoutError:
                    outcome = failed("it takes too long")
                except Failure as failure:
                    outcome = _outcome(failure)
                self.let_down = outcome.state is State.FAILED
                if not self.let_down:
                    break
                if again + 1 < self._download.attempts:
                    await asyncio.sleep(max(0.0, min(wait, _MOST_WAIT, until - time.monotonic())))
            return outcome
        finally:
            self._end(outcome)

    def _end(self, outcome: Outcome) -> None:
        """What failed and can go on stays for the next attempt of the run, and takes its room."""
        self._part.close()
        if outcome.state is State.REFUSED or (outcome.state is State.FAILED and not self._part.wanted):
            self._part.drop()
            self._room.give_back(self._taken)

    async def _try(self, url: str) -> Outcome:
        target = url
        self._part.close()  # what the try before has got is on disk, and asked for no more
        for _ in range(_REDIRECTS + 1):
            async with self._egress.stream("GET", target, self._part.wanted) as answer:
                if answer.status not in _MOVED:
                    return await self._answered(url, answer)
                if not (place := answer.headers.get("location", "")):
                    return refused(f"the server answers {answer.status} without a location")
            try:
                target = urljoin(target, place)
            except ValueError:
                return refused("the server redirects to what is no URL")
        return refused(f"the server redirects more than {_REDIRECTS} times")

    async def _answered(self, url: str, answer: Streamed) -> Outcome:
        status, headers = answer.status, answer.headers
        if status in _BUSY or status >= 500:
            wait = headers.get("retry-after", "")
            raise Passing(f"the server answers {status}", float(wait) if wait.isdecimal() and len(wait) < 4 else 0.0)
        if status == 416 and self._part.wanted:
            self._part.drop()
            raise Passing("the server answers 416")
        if status not in (200, 206):
            return refused(f"the server answers {status}")
        if headers.get("content-encoding", "identity").lower() != "identity":
            return refused("the server packs what is asked for as it is")
        if not self._part.begin(status, headers):
            self._part.drop()
            raise Passing("the server goes on at another place than where the file ends")
        announced = headers.get("content-length", "")
        size = self._part.size + (int(announced) if announced.isdecimal() and len(announced) < 19 else 0)
        if max(size, self._part.total) > self._download.most:
            return refused(f"it is larger than {self._download.most} bytes")
        return await self._read(url, answer)

    async def _read(self, url: str, answer: Streamed) -> Outcome:
        part, pieces, looked = self._part, aiter(answer.chunks), False
        self._account()
        while True:
            try:
                async with asyncio.timeout(_IDLE):
                    piece = await anext(pieces, b"")
            except TimeoutError:
                raise Passing(f"nothing comes for {_IDLE:g} seconds") from None
            if not piece:
                break
            if part.size + len(piece) > self._download.most:
                return refused(f"it is larger than {self._download.most} bytes")
            part.write(piece)
            self._account()
            if not looked and part.size >= _TOLD:
                looked = True
                kind = media.media_type(bytes(part.head[:_TOLD]), "", False)
                if not kind.startswith(_TEXT) and not self._download.wants(kind):
                    return self._unwanted(kind)
        return self._whole(url)

    def _account(self) -> None:
        """Takes room for what has come since, or gives back what came before and is not wanted any more.

        Raises full; then it is dropped at once, as others on their way may still fit.
        """
        more = self._part.size - self._taken
        try:
            self._room.take(more)
            self._taken += more
        except FullError:
            self._part.drop()
            self._room.give_back(self._taken)
            self._taken = 0
            raise

    def _whole(self, url: str) -> Outcome:
        part = self._part
        if part.total >= 0 and part.size != part.total:
            part.drop()
            raise Passing("the server says another size than it sends")
        if not part.size:
            return refused("it is empty")
        name = urlsplit(url).path.rpartition("/")[2]
        kind = media.media_type(bytes(part.head), name, part.size <= len(part.head))
        if not self._download.wants(kind):
            return self._unwanted(kind)
        outcome = Outcome(State.KEPT, "", f"sha256:{part.digest}", part.size, kind)
        self._kept(part)
        return outcome

    @staticmethod
    def _unwanted(kind: str) -> Outcome:
        return refused(f"it is {kind}, which is not wanted")


def _outcome(failure: Failure) -> Outcome:
    """What a failure of the way out says of a file. Raises those that say nothing of it."""
    match failure.code:
        case Code.EGRESS_DENIED:
            return refused("it is at an address that may not be reached")
        case Code.INVALID_VALUE:
            return refused("it is no URL that can be fetched")
        case Code.UNAVAILABLE:
            return failed("the server cannot be reached, or breaks off")
    raise failure
