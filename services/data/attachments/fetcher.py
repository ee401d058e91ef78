"""Fetches the files of a run, in its child: each URL once, several at a time, and never more than there is room for.

What came lies in the run's folder, with a journal: a run that is done again, because its child or its service was
killed, goes on from there.
"""

import asyncio
import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from services.data.attachments.domain import Outcome, State
from services.data.attachments.fetching import Fetch, Room, failed
from services.data.attachments.parts import Part
from services.data.reading.downloads import Download
from services.kit.egress import Egress

FILES, JOURNAL = "files", "journal.jsonl"
_AT_ONCE, _OF_HOST = 16, 4
_URLS = 100_000  # of one run
TOO_MANY = failed("the run has as many files as one may have")
_FAILURES = 5  # of a host, one after the other


class Fetcher:
    """Fetches for all tables of a run."""

    def __init__(self, folder: Path, allow: str, seconds: float, most: int, tell: Callable[[int], None]) -> None:
        """`seconds`: after which nothing is begun; `most`: bytes of all files; `tell`: how many files are done."""
        self._folder, self._egress = folder, Egress(allow)
        self._until, self._room, self._tell = time.monotonic() + seconds, Room(most), tell
        self._runner = asyncio.Runner()
        (folder / FILES).mkdir(parents=True, exist_ok=True)
        self._known = dict(_journal(folder / JOURNAL))
        for outcome in {outcome.digest: outcome for outcome in self._known.values()}.values():
            self._room.give_back(-outcome.bytes)
        self._journal = open(folder / JOURNAL, "ab")  # noqa: SIM115
        self._journal.write(b"\n")  # behind a line that was cut
        self._bad = Counter[str]()

    def fetch(self, download: Download, urls: Sequence[str | None]) -> Mapping[str, Outcome]:
        """What became of each URL. Raises storage_full."""
        keys = {url: _key(download, url) for url in dict.fromkeys(urls) if url}
        missing = [(url, key) for url, key in keys.items() if key not in self._known]
        if missing := missing[: max(_URLS - len(self._known), 0)]:
            self._runner.run(self._all(download, missing))
        return {url: self._known.get(key, TOO_MANY) for url, key in keys.items()}

    async def _all(self, download: Download, missing: Sequence[tuple[str, str]]) -> None:
        waiting, hosts = iter(missing), defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(_OF_HOST))

        async def worker() -> None:
            for url, key in waiting:
                host = _host(url)
                async with hosts[host]:
                    self._note(key, await self._one(download, url, key, host))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_AT_ONCE, len(missing))):
                    group.create_task(worker())
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None

    async def _one(self, download: Download, url: str, key: str, host: str) -> Outcome:
        if self._room.is_spent:
            return failed(self._room.reason)
        if self._bad[host] >= _FAILURES:
            return failed("the server failed for others of this run before")
        fetch = Fetch(
            self._egress,
            download,
            Part(self._folder, key),
            self._room,
            lambda part: part.keep(self._folder / FILES),
        )
        outcome = await fetch.run(url, self._until)
        self._bad[host] = self._bad[host] + 1 if fetch.let_down else 0
        return outcome

    def _note(self, key: str, outcome: Outcome) -> None:
        self._known[key] = outcome
        if outcome.state is not State.FAILED:
            self._journal.write(orjson.dumps({"key": key, **outcome.to_json()}) + b"\n")
            self._journal.flush()
        self._tell(len(self._known))

    def close(self) -> None:
        """Closes what is open."""
        self._journal.close()
        self._runner.run(self._egress.close())
        self._runner.close()


def _journal(path: Path) -> Iterator[tuple[str, Outcome]]:
    """What an attempt before has noted; a line that was cut is none."""
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        with suppress(orjson.JSONDecodeError):
            said: dict[str, Any] = orjson.loads(line)
            yield said["key"], Outcome.of(said)


def _key(download: Download, url: str) -> str:
    """Other limits may give another outcome; how often is tried does not."""
    said = [url, download.most, sorted(download.media_types)]
    return hashlib.sha256(orjson.dumps(said)).hexdigest()


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""
