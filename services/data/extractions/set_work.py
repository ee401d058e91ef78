"""What the child of an extraction does for a rule set: one reading, a table for each rule, and what no rule takes."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.data.extractions.domain import REPORT
from services.data.extractions.sinks import Counting, Table
from services.data.reading import connectors, lines
from services.data.reading.extractor import Extractor
from services.data.reading.folders import Place
from services.data.reading.kinds import Compiled, compiled_from_json
from services.data.reading.sharing import share
from services.kit.child import Child, Json


def extract(request: Json, child: Child) -> Json:
    """`{source, place, compiled, cursor, seconds, rules, every, folders, report}` to files of rules and the report."""
    place, compiled = Place.from_json(request["place"]), compiled_from_json(request["compiled"])
    folders = [Path(folder) for folder in request["folders"]]
    sink = SetSink(folders, compiled, request["rules"], request["every"], child, request.get("attach"))
    source = connectors.of_json(request["source"])
    end = source.read(place, compiled, request["cursor"] or {}, sink, request["seconds"])
    return {**sink.close(request["report"]), **sink.ended(end)}


class SetSink(Counting):
    """Takes records and gives them to the rules of a set."""

    def __init__(
        self,
        folders: Sequence[Path],
        compiled: Compiled,
        rules: Sequence[str],
        every: bool,
        child: Child,
        attach: Json | None = None,
    ) -> None:
        """`folders`: one of each rule, and that of the set's own data set."""
        super().__init__(folders[-1], child, attach)
        pairs = zip(folders, compiled.branches, strict=False)
        self._tables = [self.table(folder, branch, number) for number, (folder, branch) in enumerate(pairs)]
        self._report, self._rules, self._every = Table(folders[-1], REPORT), rules, every
        self._overlaps, self._overlapping = Counter[tuple[int, int]](), 0

    def take(self, ready: Extractor, records: Sequence[Any], origins: Sequence[str], fields: Sequence[str]) -> None:
        """Shares a batch of records, all of one part."""
        self.records += len(records)
        records = records if isinstance(records, list) else list(records)  # they are picked out one by one
        shares = share(ready, records, self._every)
        for table, typed in zip(self._tables, shares.typed, strict=True):
            table.take(typed)
        for place, rule, reason in shares.left:
            said = reason if rule < 0 else f"{self._rules[rule]}: {reason}"
            self._aside.put(lines.text_of(records[place], fields), said, origins[place])
        self._overlaps.update(shares.overlaps)
        self._overlapping += shares.overlapping

    def close(self, report: Json) -> Json:
        """What was kept. `report` has the columns of the report that are the same in each row, and those by rule."""
        if self.records:
            self._report.write(self._reported(report))
        return {
            **self._report.close(),
            **self._aside.close(),
            "records": self.records,
            "rules": [table.close() for table in self._tables],
            "overlapping": self._overlapping,
            "overlaps": [[*pair, records] for pair, records in self._overlaps.items()],
        }

    def _reported(self, report: Json) -> Any:
        from datetime import datetime

        import pyarrow as pa

        from services.data.arrow import arrow_schema

        rows = [
            {
                "extraction": report["extraction"],
                "time": datetime.fromisoformat(report["time"]),
                "rule_set_version": report["version"],
                "position": position,
                "rule": rule,
                "rule_version": version,
                "data_set": data_set,
                "records": self.records,
                "rows": table.rows,
            }
            for position, ((rule, version, data_set), table) in enumerate(
                zip(report["members"], self._tables, strict=True), 1
            )
        ]
        return pa.Table.from_pylist(rows, schema=arrow_schema(REPORT))
