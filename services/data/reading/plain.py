"""Lines that are written in the plainest way, many at once. What is not, a parser reads line by line. Pure."""

from collections.abc import Sequence

from services.data.reading.formats import Dialect

_LONGEST = 131_072  # characters: a field that is longer is no CSV


def lines_of(text: str) -> list[str]:
    """Whole lines, without their ends."""
    lines = text.split("\n")[:-1]
    return [line.rstrip("\r") for line in lines] if "\r" in text else lines


def rows_of(text: str, dialect: Dialect, fields: int) -> Sequence[list[str]] | None:
    """The fields of whole lines; None where it takes a parser to know them, or where one would refuse a line."""
    if "\0" in text or (dialect.quote and dialect.quote in text) or (dialect.escape and dialect.escape in text):
        return None
    if "\r" in text:
        if text.count("\r") != text.count("\r\n"):
            return None
        text = text.replace("\r\n", "\n")
    lines = text.split("\n")[:-1]
    if "" in lines or max(map(len, lines)) > _LONGEST:
        return None
    rows = [line.split(dialect.delimiter) for line in lines]
    return rows if set(map(len, rows)) == {fields} else None
