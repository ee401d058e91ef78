"""What documents have in common: places with values, objects that are maps, and arrays with what is in them. Pure."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.data.reading.paths import EACH, Path, step

_DEEPEST = 6  # names from a document, or from an element of an array, that become columns
_NESTED = 6  # arrays in each other
_QUOTABLE = re.compile(r"[^'\\]*\Z")
# Names that come and go are data: an object that is there so often, with so many names, of which each is so rare.
_OBJECTS, _NAMES, _RARE = 5, 20, 0.1


@dataclass
class Place:
    """Where values are: how many, of which kinds, and where they stand among their neighbours."""

    texts: bool = False  # or numbers, or truth values
    nested: bool = False  # objects or arrays, which have places of their own
    nulls: bool = False
    order: int = 0
    count: int = 0


@dataclass
class Shape:
    """The places of the documents, or of the elements of an array, which is then the last step of all paths."""

    array: Path = ()
    elements: int = 0
    places: dict[Path, Place] = field(default_factory=dict)
    names: dict[Path, Counter[str]] = field(default_factory=dict)  # of objects
    objects: Counter[Path] = field(default_factory=Counter)
    unnamed: dict[str, None] = field(default_factory=dict)  # what no path says, or what is too deep

    def values(self) -> list[tuple[Path, Place]]:
        """Places that can be columns, in the order of the documents, whichever of these come first."""
        maps = self.maps()
        held = [(path, one) for path, one in self.places.items() if one.texts or (one.nulls and not one.nested)]
        there = [(path, one) for path, one in held if not any(path[: len(map_)] == map_ for map_ in maps)]
        return sorted(there, key=lambda one: (one[1].order / one[1].count, written(one[0])))

    def maps(self) -> list[Path]:
        """Objects whose names are data."""
        return sorted(
            (
                path
                for path, names in self.names.items()
                if path != self.array
                and self.objects[path] >= _OBJECTS
                and len(names) >= _NAMES
                and names.total() <= _RARE * len(names) * self.objects[path]
            ),
            key=written,
        )


def shapes(documents: Sequence[Mapping[str, Any]]) -> list[Shape]:
    """That of the documents first, then those of their arrays, outer ones before inner ones."""
    found: dict[Path, Shape] = {(): Shape()}
    for document in documents:
        _Walk(found).element(found[()], document)
    maps = [map_ for shape in found.values() for map_ in shape.maps()]
    kept = [one for one in found.values() if not any(one.array[: len(map_)] == map_ for map_ in maps)]
    return sorted(kept, key=lambda one: (one.array.count(EACH), written(one.array)))


class _Walk:
    """Adds one document."""

    def __init__(self, found: dict[Path, Shape]) -> None:
        self._found, self._order = found, 0

    def element(self, shape: Shape, value: Any) -> None:
        shape.elements += 1
        if isinstance(value, dict):
            self._object(shape, shape.array, value, 0)
        else:
            self._value(shape, shape.array, value, 0)

    def _object(self, shape: Shape, path: Path, value: Mapping[str, Any], depth: int) -> None:
        shape.objects[path] += 1
        shape.names.setdefault(path, Counter()).update(value.keys())
        for name, inner in value.items():
            if not name or not _QUOTABLE.match(name):
                shape.unnamed[name] = None
            else:
                self._value(shape, (*path, name), inner, depth + 1)

    def _value(self, shape: Shape, path: Path, value: Any, depth: int) -> None:
        place = shape.places.setdefault(path, Place())
        self._order += 1
        place.order, place.count = place.order + self._order, place.count + 1
        if isinstance(value, dict) and depth < _DEEPEST:
            place.nested = True
            self._object(shape, path, value, depth)
        elif isinstance(value, list) and path.count(EACH) < _NESTED:
            place.nested = True
            array = (*path, EACH)
            inner = self._found.setdefault(array, Shape(array))
            for one in value:
                self.element(inner, one)
        elif isinstance(value, dict | list):
            place.nested = True
            shape.unnamed[written(path)] = None
        elif value is None:
            place.nulls = True
        else:
            place.texts = True


def written(path: Path) -> str:
    """A path as rules have it."""
    return "$" + "".join(map(step, path))


def names(path: Path) -> Iterator[str]:
    """The names of a path, without places in arrays."""
    return (one for one in path if isinstance(one, str))
