"""Documents of things that do not exist, from a seed, with the places that they were made with."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from services.data.schema import ColumnType

_THINGS = ["order", "parcel", "visit", "reading", "claim"]
_NAMES = ["amount", "town", "state", "at", "weight", "level", "note", "shelf", "ratio", "grade", "due", "unit", "speed"]
_GROUPS = ["sender", "place", "engine", "buyer", "device"]
_LISTS = ["lines", "stops", "alarms", "parts"]
_TAGS = ["tags", "codes", "notes"]


@dataclass
class Made:
    """Documents, the type of each place with values, the key, and which places are optional, variants or maps."""

    documents: list[dict[str, Any]]
    places: dict[str, ColumnType]
    key: str
    optional: set[str] = field(default_factory=set)
    variants: set[str] = field(default_factory=set)
    maps: set[str] = field(default_factory=set)


_KINDS: list[tuple[ColumnType, Callable[[random.Random], Any]]] = [
    (ColumnType.INT64, lambda chance: chance.randint(-5, 10_000)),
    (ColumnType.DOUBLE, lambda chance: round(chance.uniform(0.1, 99), 3) + 0.0005),
    (ColumnType.BOOL, lambda chance: chance.random() < 0.5),
    (ColumnType.TIMESTAMP, lambda chance: f"2026-0{chance.randint(1, 9)}-11T10:{chance.randint(10, 59)}:00Z"),
    (ColumnType.DATE, lambda chance: f"2026-0{chance.randint(1, 9)}-{chance.randint(10, 28)}"),
    (ColumnType.STRING, lambda chance: chance.choice(["red", "green", "blue"])),
]
_Fill = Callable[[], Any]


class _Maker:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.made = Made([], {}, "")

    def scalars(self, path: str, names: list[str]) -> dict[str, _Fill]:
        """Fields with values, some optional, some with an object in other documents."""
        fields: dict[str, _Fill] = {}
        for name in names:
            kind, fill = self.chance.choice(_KINDS)
            here = f"{path}.{name}"
            self.made.places[here] = kind
            fields[name] = lambda fill=fill: fill(self.chance)  # type: ignore[misc]
            draw = self.chance.random()
            if draw < 0.3:
                self.made.optional.add(here)
                fields[name] = self._sometimes(fields[name], self.chance.uniform(0.3, 0.9))
            elif draw < 0.4:
                self.made.variants.add(here)
                self.made.places[f"{here}.raw"] = ColumnType.INT64
                fields[name] = self._or_object(fields[name])
        return fields

    def _sometimes(self, fill: _Fill, share: float) -> _Fill:
        return lambda: fill() if self.chance.random() < share else None

    def _or_object(self, fill: _Fill) -> _Fill:
        return lambda: {"raw": self.chance.randint(1, 99)} if self.chance.random() < 0.3 else fill()

    def map(self, path: str) -> _Fill:
        """An object whose names are data."""
        self.made.maps.add(path)
        return lambda: {f"u{self.chance.getrandbits(30)}": self.chance.randint(1, 9) for _ in range(3)}

    def filled(self, fields: dict[str, _Fill]) -> dict[str, Any]:
        values = {name: fill() for name, fill in fields.items()}
        return {name: value for name, value in values.items() if value is not None}

    def list_of(self, fields: dict[str, _Fill]) -> _Fill:
        return lambda: [self.filled(fields) for _ in range(self.chance.choice([0, 1, 2, 3, 5]))]


def planted(seed: int, documents: int = 300) -> Made:
    """Documents of one shape."""
    maker = _Maker(seed)
    chance = maker.chance
    names = chance.sample(_NAMES, len(_NAMES))
    key = f"{chance.choice(_THINGS)}_id"
    maker.made.key, maker.made.places[f"$.{key}"] = f"$.{key}", ColumnType.STRING
    fields = maker.scalars("$", names[:4])
    for group in chance.sample(_GROUPS, 2):
        inner = maker.scalars(f"$.{group}", chance.sample(_NAMES, 3))
        fields[group] = lambda inner=inner: maker.filled(inner)  # type: ignore[misc]
    for name in chance.sample(_LISTS, chance.randint(1, 2)):
        element = maker.scalars(f"$.{name}[*]", chance.sample(_NAMES, 3))
        if chance.random() < 0.5:
            element["lots"] = maker.list_of(maker.scalars(f"$.{name}[*].lots[*]", chance.sample(_NAMES, 2)))
        fields[name] = maker.list_of(element)
    tags = chance.choice(_TAGS)
    maker.made.places[f"$.{tags}[*]"] = ColumnType.STRING
    fields[tags] = lambda: [chance.choice("abc") for _ in range(chance.randint(0, 3))]
    if chance.random() < 0.5:
        fields["readings"] = maker.map("$.readings")
    order = list(fields)
    for number in range(documents):
        chance.shuffle(order)
        maker.made.documents.append({key: f"K-{seed}-{number}", **maker.filled({name: fields[name] for name in order})})
    return maker.made
