"""Kinds of lines as rules: an RE2 pattern whose groups have names and types. Pure."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from services.data.discovery.headers import Header, Kind
from services.data.discovery.names import unused
from services.data.discovery.words import HOLE, Words
from services.data.reading.kinds import RegexRule, RuleColumn
from services.data.reading.values import keeps
from services.data.schema import ColumnType
from services.kit import patterns
from services.kit.errors import Failure

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_KEY = re.compile(r"([A-Za-z][\w.-]*)[\"']?[=:][\"'(\[<]?\Z")
_LABEL = re.compile(r"\(([A-Za-z][\w.-]*)\)")  # as in `7 (retries)`
_KIND = re.compile(r"[A-Za-z]{3,}\Z")  # in front of an id, and a part of it: `node-17`
_LETTERS = re.compile(r"[A-Z]*[a-z]+|[A-Z]+")
_LINKS = frozenset(
    ["a", "and", "as", "at", "by", "for", "from", "in", "is", "of", "on", "or", "the", "to", "was", "with"]
)
_LONGEST = 40  # characters of a name
_TIMES = (ColumnType.TIMESTAMP, ColumnType.DATE)
_QUANTITY = re.compile(r"([+-]?[0-9]+(?:\.[0-9]+)?)( ?[A-Za-z]{1,4}|%)\Z")


@dataclass(frozen=True)
class _Form:
    """What all values of a column look like."""

    name: str
    pattern: str
    type: ColumnType = ColumnType.STRING
    unit: str = ""  # that stands behind all of them


# The first that all values have; what is kept as text would not come back as it was.
_FORMS = (
    _Form("number", r"[+-]?[0-9]{1,18}", ColumnType.INT64),
    _Form("number", r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?", ColumnType.DOUBLE),
    _Form("flag", r"[Tt]rue|[Ff]alse|TRUE|FALSE", ColumnType.BOOL),
    _Form(
        "time",
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})?",
        ColumnType.TIMESTAMP,
    ),
    _Form("date", r"[0-9]{4}-[0-9]{2}-[0-9]{2}", ColumnType.DATE),
    _Form("ip", r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"),
    _Form("address", r"/?[0-9]{1,3}(?:\.[0-9]{1,3}){3}:[0-9]{1,5}"),
    _Form("uuid", r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"),
    _Form("hex", r"(?:0x)?[0-9a-fA-F]+"),
    _Form("url", r"[a-z][a-z0-9+.-]*://\S+"),
    _Form("path", r"(?:[A-Za-z]:)?[/\\]\S*"),
    _Form("duration", r"[+-]?[0-9]+(?:\.[0-9]+)?(?:ns|us|ms|s|m|h)"),
    _Form("size", r"[0-9]+(?:\.[0-9]+)? ?[kKMGT]?i?B"),
    _Form("word", r"\S+"),
    _Form("text", r".*?"),
)
_ID, _IDS = _Form("id", r"\S*"), _Form("ids", r".*?")


def rule_of(header: Header, words: Words, lines: Sequence[str]) -> RegexRule | None:
    """The rule for lines of one kind, with types that all of `lines` have; None where no pattern can say it.

    Raises nothing: a kind with more values than a pattern may have groups is left to people.
    """
    pieces = [*_in_front(header), *_message(words)]
    groups = [piece for piece in pieces if isinstance(piece, _Group)]
    if not groups:
        return None
    read = _reader(pieces)
    found = [values for line in lines if (values := read(line)) is not None] if read else []
    if not found:
        return None
    columns_of_values = [[values[place] or "" for values in found] for place in range(len(groups))]
    forms = [_form_of(group, values) for group, values in zip(groups, columns_of_values, strict=True)]
    names = _names(groups, forms)
    columns = []
    for group, name, form, values in zip(groups, names, forms, columns_of_values, strict=True):
        group.name, group.pattern, group.unit = name, form.pattern, _quoted(form.unit)
        columns.append(RuleColumn(name, name, form.type, required=all(values)))
    pattern = "".join(str(piece) for piece in pieces)
    try:
        patterns.compiled(pattern)
    except Failure:
        return None
    return RegexRule(pattern, tuple(columns))


@dataclass
class _Group:
    """A place where values stand."""

    hint: str = ""
    pattern: str = ".*?"
    name: str = ""
    unit: str = ""
    kind: str = ""  # that all values begin with

    def __str__(self) -> str:
        return f"(?P<{self.name}>{self.kind}{self.pattern}){self.unit}"


_Piece = _Group | str


def _in_front(header: Header) -> list[_Piece]:
    pieces: list[_Piece] = []
    for kind in header.kinds:
        if kind is Kind.SEPARATOR:
            pieces[-1:] = [r"\s*[-|]\s*"]
        elif kind is Kind.BRACKET:
            pieces += [r"[\[(<]\s*", _Group(kind), r"\s*[\])>]:?\s+"]
        elif kind is Kind.COLUMN:
            pieces += [_Group(kind, r"\S+(?: \S+){0,2}?"), r"\s+"]
        else:
            pieces += [_Group(kind, r"[^\s|]+?" if kind is Kind.NAME else r"[^\s|]+")]
            pieces += [r":?\s+" if kind is Kind.NAME else r"\s+"]
    if header.separator:
        pieces += [_Group("program"), _quoted(header.separator)]
    return pieces


def _message(words: Words) -> list[_Piece]:
    pieces: list[_Piece] = []
    front = ""
    for number, word in enumerate(words):
        if number:
            pieces.append(r"\s+")
        before = kind = ""
        for place, constant in enumerate(word.split(HOLE)):
            if place:
                key, label = _KEY.search(before), _LABEL.match("".join(words[number + 1 : number + 2]))
                hint = key[1] if key else label[1] if label else "" if before else front
                pieces.append(_Group(kind if kind and hint.lower() in {"", *_LINKS} else hint, kind=kind))
            last = place == word.count(HOLE)
            kind = found[0] if not last and (found := _KIND.search(constant)) else ""
            before = constant.removesuffix(kind)
            if before:
                pieces.append(_quoted(before))
        front = word.rstrip(":,;=([{\"'") if HOLE not in word else ""
    pieces.append(r"\s*")
    return pieces


def _quoted(text: str) -> str:
    """A pattern of the same text; there may be spaces inside brackets."""
    return "".join(map(_character, text))


def _character(char: str) -> str:
    if char == " ":
        return r"\s+"
    quoted = char if char.isalnum() or char == "_" or ord(char) > 127 else "\\" + char
    return quoted + r"\s*" if char in "([{" else r"\s*" + quoted if char in ")]}" else quoted


def _reader(pieces: Sequence[_Piece]) -> Callable[[str], Sequence[str | None] | None] | None:
    """What gives the values of a line; None where there are too many groups for a pattern."""
    names = [f"g{number}" for number in range(sum(isinstance(piece, _Group) for piece in pieces))]
    numbered = iter(names)
    loose = [str(replace(piece, name=next(numbered))) if isinstance(piece, _Group) else piece for piece in pieces]
    try:
        return patterns.picker("".join(loose), names)
    except Failure:
        return None


def _form_of(group: _Group, values: Sequence[str]) -> _Form:
    if group.kind:
        return _IDS if any(len(value.split()) > 1 for value in values) else _ID
    return _form(values)


def _form(values: Sequence[str]) -> _Form:
    known = set(values)
    parts = [_QUANTITY.match(value) for value in known]
    units = {part[2] if part else "" for part in parts}
    if len(units) == 1 and (unit := units.pop()):
        return replace(_form([part[1] for part in parts if part]), unit=unit)
    for form in _FORMS:
        whole = re.compile(rf"(?:{form.pattern})\Z", re.DOTALL)
        if all(whole.match(value) for value in known) and all(keeps(value, form.type) for value in known):
            return form
    return _FORMS[-1]


def _names(groups: Sequence[_Group], forms: Sequence[_Form]) -> list[str]:
    """Names by what stands in front, or by what the values look like; each is there once."""
    names: list[str] = []
    for group, form in zip(groups, forms, strict=True):
        hint = form.name if group.hint == Kind.BRACKET and form.type in _TIMES else group.hint
        name = "_".join(_LETTERS.findall(hint)).lower()[:_LONGEST].strip("_")
        name = f"{name}_{form.name}" if name in _LINKS else name if _NAME.match(name) else form.name
        if unit := "".join(_LETTERS.findall(form.unit)).lower():
            name = f"{name}_{unit}"
        names.append(unused(name, names))
    return names
