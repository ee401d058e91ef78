"""Units of measures: how many of a dimension's first unit each is. Pure.

The definitions of the International System, of the international yard and pound (1959), and of the US gallon.
"""

from collections.abc import Mapping

_LENGTH = {"m": 1.0, "mm": 1e-3, "cm": 1e-2, "km": 1e3, "in": 0.0254, "ft": 0.3048, "yd": 0.9144, "mi": 1609.344}
_BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_SHARES = {"1": 1.0, "%": 1e-2, "permille": 1e-3, "ppm": 1e-6}
DIMENSIONS: Mapping[str, Mapping[str, float]] = {
    "mass": {"g": 1.0, "mg": 1e-3, "kg": 1e3, "t": 1e6, "oz": 28.349523125, "lb": 453.59237, "st": 6350.29318},
    "length": {**_LENGTH, "nmi": 1852.0},
    "volume": {"l": 1.0, "ml": 1e-3, "cl": 1e-2, "m3": 1e3, "gal": 3.785411784},
    "duration": {"s": 1.0, "us": 1e-6, "ms": 1e-3, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0},
    "bytes": {**_BYTES, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40},
    "temperature": {"K": 1.0, "C": 1.0, "F": 5 / 9},
    "speed": {"m/s": 1.0, "km/h": 1 / 3.6, "mph": 0.44704, "kn": 1852 / 3600},
    "share": _SHARES,
}
_OFFSETS = {"C": 273.15, "F": 459.67 * 5 / 9}  # kelvins at zero
# Other words for units, without case.
_WORDS: Mapping[str, Mapping[str, str]] = {
    "mass": {
        "gram": "g", "grams": "g", "kilogram": "kg", "kilograms": "kg", "kgs": "kg", "lbs": "lb", "pound": "lb",
        "pounds": "lb", "ounce": "oz", "ounces": "oz", "ton": "t", "tons": "t", "tonne": "t", "tonnes": "t",
    },
    "length": {
        "metre": "m", "metres": "m", "meter": "m", "meters": "m", "kms": "km", "mile": "mi", "miles": "mi",
        "inch": "in", "inches": "in", '"': "in", "foot": "ft", "feet": "ft", "'": "ft", "yard": "yd", "yards": "yd",
    },
    "volume": {"litre": "l", "litres": "l", "liter": "l", "liters": "l", "m³": "m3", "gallon": "gal", "gallons": "gal"},
    "duration": {
        "m": "min", "mins": "min", "minute": "min", "minutes": "min", "sec": "s", "secs": "s", "second": "s",
        "seconds": "s", "hr": "h", "hrs": "h", "hour": "h", "hours": "h", "day": "d", "days": "d", "week": "w",
        "weeks": "w", "µs": "us", "μs": "us",
    },
    "bytes": {"byte": "B", "bytes": "B"},
    "temperature": {"°c": "C", "°f": "F", "celsius": "C", "fahrenheit": "F", "kelvin": "K"},
    "speed": {"kmh": "km/h", "kph": "km/h", "knots": "kn"},
    "share": {"percent": "%", "pct": "%", "‰": "permille"},
}  # fmt: skip


def dimension_of(unit: str) -> str:
    """What a unit measures; empty for one that is not known."""
    return next((name for name, units in DIMENSIONS.items() if unit in units), "")


def known_as(word: str, dimension: str) -> str:
    """The unit of a dimension that a word means, with its case or, where that is of no matter, without; empty: none."""
    units = DIMENSIONS[dimension]
    if word in units:
        return word
    folded = word.casefold()
    if folded in _WORDS[dimension]:
        return _WORDS[dimension][folded]
    alike = [unit for unit in units if unit.casefold() == folded]
    return alike[0] if len(alike) == 1 else ""


def factors(unit: str, to: str) -> tuple[float, float]:
    """What a number in a unit is multiplied with, and what is added then, for another unit of the same dimension."""
    units = DIMENSIONS[dimension_of(to)]
    scale = units[unit] / units[to]
    return scale, (_OFFSETS.get(unit, 0.0) - _OFFSETS.get(to, 0.0)) / units[to]
