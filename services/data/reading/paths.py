"""JSON paths: `$.a.b[0]`, `$['a b']`, and `$.a[*].b` for each element of an array; nothing that searches. Pure."""

import re
from typing import Any

from services.kit.errors import InvalidValue

Path = tuple[str | int, ...]
EACH = -1  # the step to all elements of an array
_DEEPEST = 32
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_STEP = re.compile(
    r"""\.(?P<name>[A-Za-z_][A-Za-z0-9_-]*)|\[(?P<index>[0-9]{1,6}|\*)\]|\['(?P<single>[^'\\]*)'\]|\["(?P<double>[^"\\]*)"\]"""
)


def parse(text: str) -> Path:
    """The steps of a path; a text without `$` names a field. Raises invalid_value."""
    if not text.startswith("$"):
        return (text,)
    steps: list[str | int] = []
    at = 1
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            raise InvalidValue(
                f"the path {text[:80]} is not understood at character {at + 1}: write $.a.b[0], $['a'] or $.a[*].b"
            )
        index = match["index"]
        name = match["name"] or match["single"] or match["double"] or ""
        steps.append(EACH if index == "*" else int(index) if index else name)
        at = match.end()
    if len(steps) > _DEEPEST:
        raise InvalidValue(f"the path {text[:80]} has more than {_DEEPEST} steps")
    return tuple(steps)


def step(one: str | int) -> str:
    """A step as it is written: a name, or the place in an array."""
    if isinstance(one, int):
        return "[*]" if one == EACH else f"[{one}]"
    return f".{one}" if _NAME.match(one) else f'["{one}"]' if "'" in one else f"['{one}']"


def find(document: Any, path: Path) -> Any:
    """The value at a path, or None where there is none."""
    for step in path:
        if isinstance(step, str):
            document = document.get(step) if isinstance(document, dict) else None
        else:
            document = document[step] if isinstance(document, list) and 0 <= step < len(document) else None
        if document is None:
            return None
    return document
