"""Whether the records of a text have several lines: by the times that only some of its lines begin with. Pure."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

_LEAST = 2  # records
_GOES_ON = 0.5  # of the pieces between two starts look like the rest of a record
_WORDS = 3  # that may stand in front of a time
_MARK = r"(?:[\[(]|<[0-9]{1,3}>)?"
# As RE2 and Python's expressions both understand them, the more telling first.
_TIMES = (
    r"[0-9]{4}[-/.][0-9]{2}[-/.][0-9]{2}[T ,:]+[0-9]{2}:[0-9]{2}",
    r"[0-9]{1,2}[-/. ][A-Z][a-z]{2}[-/. ][0-9]{2,4}[T ,:]+[0-9]{2}:[0-9]{2}",
    r"[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{2,4}[T ,]+[0-9]{1,2}:[0-9]{2}",
    r"(?:[A-Z][a-z]{2},? )?[A-Z][a-z]{2} +[0-9]{1,2}(?:,? [0-9]{4})? [0-9]{1,2}:[0-9]{2}:[0-9]{2}",
    r"[A-Z][0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}",
    r"[0-9]{6,8}[ -][0-9]{6}\b",
    r"[0-9]{10}(?:[0-9]{3}|\.[0-9]+)?\b",
    r"[0-9]{2}:[0-9]{2}:[0-9]{2}\b",
    r"(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL|SEVERE)\b",
)
_REST = re.compile(r"\s+\S|[)}\]]|Caused by: |Traceback \(most recent call last\):")
_FRONTS = (re.compile(r"\S{1,60}"), re.compile(r"\S{1,40}\s+\S{1,40}"))
_PIECE = re.compile(r"[0-9]+|[A-Za-z]+|\s+|.")
_DIGITS = 6  # that a time in another form has at least


def suggested(lines: Sequence[str]) -> str:
    """The pattern that starts a record, or nothing where each line seems to be one."""
    there = [line for line in lines if line.strip()]
    if not there or not any(map(_REST.match, there)):
        return ""
    return next((pattern for pattern in _candidates(there) if _divides(re.compile(pattern), there)), "")


def _candidates(lines: Sequence[str]) -> Iterator[str]:
    for time in _TIMES:
        for words in range(_WORDS + 1):
            yield r"\S+\s+" * words + _MARK + time
    for front in _FRONTS:
        found = (match[0] for line in lines if (match := front.match(line)))
        forms = Counter(_form(text) for text in found if sum(map(str.isdigit, text)) >= _DIGITS)
        yield from (form for form, _ in forms.most_common(1))


def _form(text: str) -> str:
    """A pattern of everything that is written like this."""
    forms = {"0": "[0-9]+", "a": "[A-Za-z]+", " ": r"\s+"}

    def piece(match: re.Match[str]) -> str:
        first = match[0][0]
        kind = "0" if first in "0123456789" else "a" if first.isascii() and first.isalpha() else first
        return forms[" "] if first.isspace() else forms.get(kind) or re.escape(first)

    return _PIECE.sub(piece, text)


def _divides(start: re.Pattern[str], lines: Sequence[str]) -> bool:
    """Whether records begin with the first line, and what is between two starts is hardly anything else."""
    if not start.match(lines[0]):
        return False
    pieces = list[bool]()  # what stands between two starts: whether it looks like the rest of a record
    starts, inside = 0, False
    for line in lines:
        if start.match(line):
            starts, inside = starts + 1, False
        elif inside:
            pieces[-1] = pieces[-1] or _REST.match(line) is not None
        else:
            pieces.append(_REST.match(line) is not None)
            inside = True
    return starts >= _LEAST and bool(pieces) and sum(pieces) >= _GOES_ON * len(pieces)
