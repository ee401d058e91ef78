"""The steps of recipes, as they are stored and handed to children. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from services.data.cleaning.kinds import Convert, Duplicates, FillMissing, FindMissing, Kind, Outliers
from services.data.cleaning.kinds_values import Encoding, Smooth, Spellings, TimeZone, Units
from services.data.schema import ColumnType

# By the names that the contract has.
KINDS: dict[str, type[Kind]] = {
    "find_missing": FindMissing,
    "convert": Convert,
    "fill_missing": FillMissing,
    "outliers": Outliers,
    "duplicates": Duplicates,
    "units": Units,
    "time_zone": TimeZone,
    "encoding": Encoding,
    "spellings": Spellings,
    "smooth": Smooth,
}


@dataclass(frozen=True)
class Step:
    """A step by its name."""

    step: str
    kind: Kind

    @property
    def word(self) -> str:
        """The name of its kind."""
        return next(word for word, kind in KINDS.items() if type(self.kind) is kind)


def to_json(step: Step) -> dict[str, Any]:
    """As it is stored, and handed to a child."""
    return {"step": step.step, "kind": step.word, "what": asdict(step.kind)}


def from_json(stored: Mapping[str, Any]) -> Step:
    """What `to_json` made."""
    what = {name: _frozen(value) for name, value in stored["what"].items()}
    if "type" in what:
        what["type"] = ColumnType(str(what["type"]))
    return Step(stored["step"], KINDS[stored["kind"]](**what))


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value
