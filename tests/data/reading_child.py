"""The work of an extraction's child, done in this process: what it answers to a request."""

import gc
import socket
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq

from services.data.extractions import work
from services.data.reading.folders import Place
from services.data.reading.kinds import FilesSource, RuleDefinition, SqlSource, compiled_to_json, to_json
from services.data.rules.compiling import compile_rule
from services.kit.child import LENGTH, Child, Json


class Reading:
    """A source with a rule, read again and again from where the last run ended."""

    def __init__(self, root: Path, source: SqlSource | FilesSource, rule: RuleDefinition) -> None:
        self.root, self.source = root, source
        name = source.url.removeprefix("sqlite:///") if isinstance(source, SqlSource) else source.pattern
        self.place = Place(root, tuple(name.split("/")))
        self.compiled = compile_rule(rule, source, self.place)
        self.cursor: Json | None = None
        self.folder = root
        self.runs = 0

    def run(self) -> Json:
        """One run; its answer, as it crosses the socket."""
        self.prepare()
        return self.go()

    def prepare(self) -> Path:
        """The empty folder of the next run."""
        self.runs += 1
        self.folder = self.root.parent / f"run-{self.runs}"
        self.folder.mkdir()
        return self.folder

    def go(self) -> Json:
        ours, theirs = socket.socketpair()
        request = {
            "source": to_json(self.source),
            "place": self.place.to_json(),
            "compiled": compiled_to_json(self.compiled),
            "cursor": self.cursor,
            "folder": str(self.folder),
            "seconds": 30.0,
        }
        with ours, theirs:
            try:
                result = work.main(orjson.loads(orjson.dumps(request)), Child(theirs))
            finally:
                gc.enable()
            theirs.shutdown(socket.SHUT_WR)
            self.told = _messages(ours.makefile("rb").read())
        answer: Json = orjson.loads(orjson.dumps(result))
        self.cursor = answer["cursor"]
        return answer

    def rows(self, answer: Json) -> list[dict[str, Any]]:
        """The rows that a run has written."""
        return self._read(answer["files"])

    def broken(self, answer: Json) -> list[tuple[str, str, str]]:
        """What a run has put aside: record, reason, origin."""
        return [(row["record"], row["reason"], row["origin"]) for row in self._read(answer["quarantine"])]

    def _read(self, files: list[Json]) -> list[dict[str, Any]]:
        return [row for file in files for row in pq.read_table(self.root.parent / file["path"]).to_pylist()]


def _messages(data: bytes) -> list[Json]:
    found = []
    while data:
        (length,) = LENGTH.unpack(data[: LENGTH.size])
        found.append(orjson.loads(data[LENGTH.size : LENGTH.size + length])["progress"])
        data = data[LENGTH.size + length :]
    return found
