"""The child of an extraction: reads what is new in a source, writes rows and quarantined records as Parquet files."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.data.extractions import set_work
from services.data.extractions.sinks import Counting
from services.data.reading import connectors, lines, vectors
from services.data.reading.extractor import Extractor
from services.data.reading.folders import Place
from services.data.reading.kinds import Compiled, compiled_from_json
from services.kit.child import Child, Json


def main(request: Json, child: Child) -> Json:
    """Reads from `cursor` on; returns files, counts by reason, statistics, and the cursor of the next run.

    With `rules` it does so for a rule set.
    """
    gc.disable()  # nothing here makes cycles, and looking for them costs a third of the time
    return set_work.extract(request, child) if "rules" in request else _extract(request, child)


def _extract(request: Json, child: Child) -> Json:
    place, compiled = Place.from_json(request["place"]), compiled_from_json(request["compiled"])
    sink = Sink(Path(request["folder"]), compiled, child, request.get("attach"))
    source = connectors.of_json(request["source"])
    end = source.read(place, compiled, request["cursor"] or {}, sink, request["seconds"])
    return {**sink.close(), **sink.ended(end)}


class Sink(Counting):
    """Takes records and keeps rows, quarantined records, statistics and counts."""

    def __init__(self, folder: Path, compiled: Compiled, child: Child, attach: Json | None = None) -> None:
        super().__init__(folder, child, attach)
        self._table = self.table(folder, compiled)

    def take(self, ready: Extractor, records: Sequence[Any], origins: Sequence[str], fields: Sequence[str]) -> None:
        """Types a batch of records, all of one part."""
        if not records:
            return
        self.records += len(records)
        typed = vectors.extract(ready, records)
        self._table.take(typed)
        for index, reason in typed.refused:
            self._aside.put(lines.text_of(records[index], fields), reason, origins[index])

    def close(self) -> Json:
        """What was kept."""
        return {**self._table.close(), **self._aside.close(), "records": self.records}
