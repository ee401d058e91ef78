"""Databases that do not exist, with the keys and references that they were made with."""

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from services.data.discovery import joins

_THINGS = (
    "customer",
    "product",
    "supplier",
    "warehouse",
    "city",
    "employee",
    "carrier",
    "category",
    "machine",
    "plant",
)
_FACTS = ("order", "shipment", "payment", "visit", "measurement")
_WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "jetty")
_ROLES = ("billing", "main", "second", "home")

Place = tuple[str, str]


@dataclass
class Schema:
    """Tables by column, and the truth about them."""

    tables: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    keys: set[Place] = field(default_factory=set)
    references: set[tuple[Place, Place]] = field(default_factory=set)

    def columns(self) -> list[joins.Column]:
        """As discovery takes them."""
        return [joins.Column(t, name, values) for t, found in self.tables.items() for name, values in found.items()]


def schema(seed: int) -> Schema:
    """Some tables of things and some of facts about them; a few values are missing or refer to nothing."""
    made, chance = Schema(), random.Random(seed)
    things = chance.sample(_THINGS, 4)
    for thing in things:
        _table(made, chance, thing, chance.randint(30, 400), [])
    for fact in chance.sample(_FACTS, 2):
        _table(made, chance, fact, chance.randint(500, 1500), chance.sample(things, 3))
    return made


def _table(made: Schema, chance: random.Random, thing: str, size: int, of: list[str]) -> None:
    name = _plural(thing) if chance.random() < 0.7 else thing
    key = chance.choice(["id", f"{thing}_id", "code", f"{thing}Id"])
    table = {key: _names(chance, size, "code" if key == "code" else chance.choice(["dense", "sparse", "uuid", "code"]))}
    for other in of:
        there, column = next(place for place in made.keys if place[0] in (other, _plural(other)))
        values = made.tables[there][column]
        reference = chance.choice(
            [
                f"{other}_id",
                other,
                f"{other[:4]}_id",
                f"{chance.choice(_ROLES)}_{other}_id",
                f"{other}Code",
                f"owner{len(table)}",
            ]
        )
        table[reference] = [_reference(chance, values) for _ in range(size)]
        made.references.add(((name, reference), (there, column)))
    table |= {
        "quantity": [chance.randint(1, 12) for _ in range(size)],
        "amount": [round(chance.uniform(1, 9000), 2) for _ in range(size)],
        "age": [chance.randint(18, 90) for _ in range(size)],
        "percent": [chance.randint(0, 100) for _ in range(size)],
        "state": [chance.choice(["new", "open", "closed"]) for _ in range(size)],
        "created": [f"2026-0{chance.randint(1, 9)}-1{chance.randint(0, 9)}T10:00:{n % 60:02}Z" for n in range(size)],
        "active": [chance.random() < 0.5 for _ in range(size)],
        "title": [" ".join(chance.choices(_WORDS, k=6)) for _ in range(size)],
        "cents": [chance.randint(1, 10**7) for _ in range(size)],
    }
    made.tables[name] = table
    made.keys.add((name, key))


def _plural(thing: str) -> str:
    return f"{thing[:-1]}ies" if thing.endswith("y") else f"{thing}s"


def _names(chance: random.Random, size: int, form: str) -> list[Any]:
    if form == "dense":
        return list(range(1, size + 1))
    if form == "sparse":
        return chance.sample(range(10**6), size)
    if form == "uuid":
        return [f"{chance.getrandbits(32):08x}-0000-4000-8000-{chance.getrandbits(48):012x}" for _ in range(size)]
    return [f"{chance.choice('ABCDEF')}{number}" for number in chance.sample(range(10**4), size)]


def _reference(chance: random.Random, values: list[Any]) -> Any:
    kind = chance.random()
    return None if kind < 0.03 else "9999999999" if kind < 0.05 else chance.choice(values)


def accuracy(seeds: range) -> dict[str, tuple[float, float]]:
    """Precision and recall of keys and of joins over some schemas."""
    counts = {"keys": Counter[str](), "joins": Counter[str]()}
    for seed in seeds:
        made = schema(seed)
        columns = made.columns()
        keys = {(key.source, key.column) for _, key in joins.keys(columns)}
        found = {((j.source, j.column), (j.key_source, j.key_column)) for j in joins.joins(columns)}
        counts["keys"].update(right=len(keys & made.keys), said=len(keys), true=len(made.keys))
        right = len(found & made.references)
        counts["joins"].update(right=right, said=len(found), true=len(made.references))
    return {name: (one["right"] / one["said"], one["right"] / one["true"]) for name, one in counts.items()}
