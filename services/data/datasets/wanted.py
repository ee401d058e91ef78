"""What is looked for in the catalogue: words in names, descriptions, owners, columns and tags. Pure."""

from collections.abc import Iterable

from services.data.datasets.domain import DataSet
from services.kit.errors import InvalidValue, Violation

# Each item begins with the mark of its field, which no word has.
_MARKS = {"name": "\x01", "description": "\x02", "owner": "\x03", "column": "\x04", "tag": "\x05"}
_MOST = 10  # words


def searched(found: DataSet, columns: Iterable[str], tags: Iterable[str]) -> str:
    """The text that words are looked for in."""
    items = [("name", found.data_set), ("description", found.description), ("owner", found.owner)]
    items += [("column", name) for name in columns]
    items += [("tag", name) for name in tags]
    return "".join(_MARKS[field] + _plain(text) for field, text in items)


def wanted(query: str) -> tuple[str, ...]:
    """The texts that must all be there: a word anywhere, a word after `column:` at the beginning of such an item.

    Raises invalid_value for no word, and for too many.
    """
    words = [_text(word) for word in query.split()]
    found = tuple(dict.fromkeys(word for word in words if word))
    if not 0 < len(found) <= _MOST:
        rule = f"must have 1 to {_MOST} words"
        raise InvalidValue(f"the query {rule}", [Violation("/query", rule)])
    return found


def _text(word: str) -> str:
    field, colon, rest = word.partition(":")
    mark = _MARKS.get(field.lower(), "") if colon and rest else ""
    return mark + _plain(rest if mark else word)


def _plain(text: str) -> str:
    """Without its case, and without what could be taken for a mark."""
    return "".join(character for character in text.casefold() if character >= " ")
