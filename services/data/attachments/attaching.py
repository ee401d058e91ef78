"""Says of the rows of a run which files belong to them, adds what became of downloads, and writes it all down."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from services.data.attachments.copying import Copying
from services.data.attachments.domain import Outcome, State
from services.data.attachments.fetcher import FILES, TOO_MANY, Fetcher
from services.data.attachments.fetching import LONGEST
from services.data.reading.downloads import ADDED, Download
from services.data.reading.kinds import Compiled
from services.kit.disk import on_disk

MANIFEST, KNOWN = "manifest.jsonl", "known.jsonl"
# Of a table, by its number: the columns with places and digests, and a place.
_Key = tuple[int, str, str, str]
# Bytes that all places of a run have in its manifest, which the service reads; those of one beside the place itself.
_NOTED, _BESIDE = 64 * 2**20, 256


class Attaching:
    """For the tables of a run, each with its number."""

    def __init__(self, folder: Path, fetcher: Fetcher, copying: Copying) -> None:
        self._folder, self._fetcher, self._copying = folder, fetcher, copying
        self._found: dict[_Key, Outcome] = {}
        self._room, self._unnoted = _NOTED, Counter[str]()
        self._before = dict(_known(folder / KNOWN))
        # Takes the bytes of documents, if a rule keeps them.
        self.documents: Copying | None = None

    @classmethod
    def of(cls, said: Mapping[str, Any], tell: Callable[[int], None]) -> "Attaching":
        """As `Keeping.request` says; `tell` is told how many files are done."""
        folder = Path(said["folder"])
        fetcher = Fetcher(folder, said["allow"], said["seconds"], said["most"], tell)
        return cls(folder, fetcher, Copying(folder / FILES, said["most"]))

    def adds(self, number: int, compiled: Compiled) -> "Adds | None":
        """What completes the rows of a table; None where no files belong to them."""
        if compiled.documents:
            self.documents = self._copying
        return Adds(self, number, compiled) if compiled.keeps_files else None

    def fetch(self, number: int, download: Download, urls: Sequence[str | None]) -> list[Outcome | None]:
        """What became of the URLs of a column, in their order. There is no file that is not noted."""
        column = download.column
        keys = {url: (number, column, f"{column}_digest", url) for url in urls if url}
        asked = [url for url, key in keys.items() if not _is_place(url) or self._takes(key)]
        before = {url: known for url in asked if (known := self._before.get((number, column, url)))}
        before = {url: known for url, known in before.items() if download.allows(known.bytes, known.media_type)}
        found = {**self._fetcher.fetch(download, [url for url in asked if url not in before]), **before}
        noted = {url for url, outcome in found.items() if _is_place(url) and outcome is not TOO_MANY}
        self._found |= {keys[url]: found[url] for url in noted}
        self._unnoted[column] += len(keys) - len(noted)
        return [found.get(url, TOO_MANY) if url else None for url in urls]

    def _takes(self, key: _Key) -> bool:
        """Whether there is room to note a place, unless that was done."""
        size = 0 if key in self._found else _BESIDE + len(key[-1].encode())
        if size > self._room:
            return False
        self._room -= size
        return True

    def name(self, number: int, column: str, digests: str, wanted: Sequence[str | None]) -> None:
        """The documents of these digests belong to a table."""
        for digest in wanted:
            paths, outcome = self._copying.found.get(digest or "", ((), None))
            self._found |= {(number, column, digests, path): outcome for path in paths if outcome}

    def close(self) -> list[str]:
        """Writes what was found; returns what people should know."""
        self._fetcher.close()
        self._copying.close()
        with on_disk(), open(self._folder / MANIFEST, "wb") as file:
            for (number, column, digests, origin), outcome in self._found.items():
                where = {"table": number, "column": column, "digests": digests, "origin": origin}
                file.write(orjson.dumps({**where, **outcome.to_json()}) + b"\n")
        return self._notes()

    def _notes(self) -> list[str]:
        notes = []
        for column in sorted({column for _, column, _, _ in self._found} | set(self._unnoted)):
            states = [outcome.state for (_, name, _, _), outcome in self._found.items() if name == column]
            unnoted = self._unnoted[column]
            if less := len(states) - states.count(State.KEPT) + unnoted:
                notes.append(f"{less} of {len(states) + unnoted} files of {column} were not fetched")
        return notes


def _is_place(url: str) -> bool:
    """Whether it may be one. What is none is refused in its row, and is noted nowhere: it may be as long as a line."""
    return len(url.encode()) <= LONGEST and "\0" not in url


def _known(path: Path) -> Iterator[tuple[tuple[int, str, str], Outcome]]:
    """What the data sets of a run have already, by table, column and place."""
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                said = orjson.loads(line)
                yield (said["table"], said["column"], said["origin"]), Outcome.of(said)


class Adds:
    """What completes the rows of one table."""

    def __init__(self, attaching: Attaching, number: int, compiled: Compiled) -> None:
        self._attaching, self._number, self._compiled = attaching, number, compiled

    def to(self, table: Any) -> Any:
        """An Arrow table with what became of its downloads."""
        import pyarrow as pa

        for download in self._compiled.downloads:
            urls = table.column(download.column).to_pylist()
            outcomes = self._attaching.fetch(self._number, download, urls)
            for name, _ in ADDED:
                values = [None if one is None else _value(one, name) for one in outcomes]
                kind = pa.int64() if name == "bytes" else pa.string()
                table = table.append_column(f"{download.column}_{name}", pa.array(values, kind))
        if digests := self._compiled.documents:
            places = zip(self._compiled.columns, self._compiled.paths, strict=False)
            column = next((column.name for column, path in places if path == ("path",)), digests)
            self._attaching.name(self._number, column, digests, table.column(digests).to_pylist())
        return table


def _value(outcome: Outcome, name: str) -> str | int | None:
    """NULL for what is not kept, but its state and reason."""
    if name == "state":
        return outcome.state.value
    if name == "reason":
        return outcome.reason or None
    return getattr(outcome, name) if outcome.state is State.KEPT else None
