"""What a run needs to end after a crash, beside its files: kept with the last of its versions."""

from collections.abc import Sequence
from typing import Any

from services.data.datasets.domain import NewVersion
from services.data.extractions.domain import Counts, Fill
from services.data.reading.kinds import Compiled


def notes_of(result: dict[str, Any], rows: int, data_sets: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    """Of a child's result. `data_sets`: those whose versions are committed together with this one."""
    return {
        "records": result["records"],
        "rows": rows,
        "quarantined": sum(result["quarantined"].values()),
        "cursor": result["cursor"],
        "notes": result["notes"],
        "data_sets": list(data_sets),
        **result.get("attached", {}),
        **more,
    }


def counts_of(new: NewVersion) -> Counts:
    """What `notes_of` noted."""
    names = ("records", "rows", "quarantined", "cursor")
    return Counts(**{name: new.notes[name] for name in names}, notes=tuple(new.notes["notes"]))


def fills_of(new: NewVersion, compiled: Compiled) -> tuple[Fill, ...]:
    """How many of the rows that a child wrote have a value, by column of its rule.

    What downloads add is not of the rule: it says how their servers are.
    """
    own = {column.name for column in compiled.columns}
    return tuple(Fill(one.column, new.notes["rows"], one.nulls) for one in new.statistics if one.column in own)
