"""Which rows a page of a version has: its token, its columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.data.datasets.domain import DataSetVersion
from services.data.schema import Column
from services.kit import pages
from services.kit.errors import InvalidValue, Violation
from services.kit.pages import Page

Row = Mapping[str, Any]


def place(version: int, page_token: str) -> tuple[int, int]:
    """The version and the row that a page begins at. Raises invalid_value."""
    if (last := pages.after(page_token, int, int)) is None:
        return version, 0
    number, start = (int(part) for part in last)
    if number < 1 or start < 0:
        raise InvalidValue("page_token must be one that was returned", [Violation("/page_token", "is unknown")])
    if version not in (0, number):
        raise InvalidValue("page_token is of another version", [Violation("/page_token", "is of another version")])
    return number, start


def page(rows: Sequence[Row], version: int, start: int, total: int) -> Page[Row]:
    """Rows from `start` on of a version that has `total`, with the token of what follows."""
    end = start + len(rows)
    return Page(tuple(rows), pages.token(version, end) if rows and end < total else "")


def choose(found: DataSetVersion, names: Sequence[str]) -> tuple[Column, ...]:
    """The columns by name, in the order asked for; all of them for none."""
    known = {column.name: column for column in found.columns}
    for index, name in enumerate(names):
        if name not in known:
            text = f"{found.data_set} has no column {name[:60]}"
            raise InvalidValue(text, [Violation(f"/columns/{index}", "is not a column")])
    return tuple(known[name] for name in dict.fromkeys(names)) or found.columns
