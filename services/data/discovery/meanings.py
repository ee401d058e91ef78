"""What columns are about, in words: URLs, values of a few, values that are there once, units, mixed types. Pure."""

import re
from collections.abc import Sequence
from typing import Any

LOOKED_AT = 2000  # records
_MOST = 400  # characters of what is said
_INNER = "objects or lists"
_FEW, _EACH = 20, 10  # different values of a column of choices, and how often each comes on average
_LEAST = 10  # values that say anything
_URL = re.compile(r"(?:https?|ftp|s3)://[^\s/]+\S*\Z")
_TOKEN = re.compile(r"[A-Za-z]+")
_UNITS = {
    "ms": "milliseconds", "sec": "seconds", "secs": "seconds", "seconds": "seconds", "min": "minutes",
    "mins": "minutes", "minutes": "minutes", "hours": "hours", "hrs": "hours", "days": "days",
    "km": "kilometres", "miles": "miles",
    "kg": "kilograms", "lbs": "pounds", "celsius": "degrees Celsius", "fahrenheit": "degrees Fahrenheit",
    "pct": "per cent", "percent": "per cent", "bytes": "bytes", "kb": "kilobytes", "mb": "megabytes", "gb": "gigabytes",
    "mph": "miles per hour", "kmh": "kilometres per hour", "usd": "US dollars", "eur": "euros",
}  # fmt: skip


def said(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """What can be said of columns by the raw values of their records; nothing where nothing stands out."""
    found = [
        f"{name[:60]} {meaning}"
        for place, name in enumerate(names)
        if (meaning := _meaning(name, [row[place] for row in rows]))
    ]
    text = "; ".join(found).replace("\0", "\ufffd")
    return text if len(text) <= _MOST else text[: text.rindex(";", 0, _MOST)] + "; and more"


def _meaning(name: str, values: Sequence[Any]) -> str:
    there = [value for value in values if value is not None and value != "" and not isinstance(value, bytes)]
    kinds = {_kind(value) for value in there}
    if len(there) < _LEAST:
        return ""
    if len(kinds) > 1:
        return f"has {' and '.join(sorted(kinds))}"
    if kinds == {_INNER}:
        return ""
    if kinds == {"texts"} and all(map(_URL.match, map(str, there))):
        return "holds URLs"
    different = set(there)
    if len(different) == len(values):
        return "has another value in each record"
    if kinds == {"texts"} and 1 < len(different) <= _FEW and len(there) >= _EACH * len(different):
        return f"is one of {len(different)} values"
    words = _TOKEN.findall(name)
    unit = _UNITS.get(words[-1].lower(), "") if len(words) > 1 else ""
    return f"is in {unit}, by its name" if unit and _are_numbers(there) else ""


def _kind(value: Any) -> str:
    if isinstance(value, list | dict):
        return _INNER
    return "truth values" if isinstance(value, bool) else "numbers" if isinstance(value, int | float) else "texts"


def _are_numbers(values: Sequence[Any]) -> bool:
    try:
        return all(float(value) is not None for value in values)
    except (TypeError, ValueError):
        return False
