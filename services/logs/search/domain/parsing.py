"""Parses the text of a query into a tree.

query = and { OR and }     and = not { [AND] not }     not = [NOT] not | ( query ) | term
term  = word | word* | "words" | field:value | field:value* | field:"value" | field:>5 | field:[1 TO 5]
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from services.kit.errors import Code, Failure, Violation
from services.logs.search.domain.query import (
    ATTRIBUTES,
    KEYWORDS,
    NUMBERS,
    All,
    And,
    Field,
    Not,
    Or,
    Query,
    Range,
    Words,
    number,
    words_of,
)

_MOST_TERMS, _DEEPEST, _LONGEST = 64, 16, 4096
_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<open>\()|(?P<close>\))|(?P<name>[A-Za-z_][A-Za-z0-9_.-]*):(?!/)|(?P<phrase>"(?:[^"\\]|\\.)*")
    |(?P<range>\[[^\]"]*\])|(?P<compare>[<>]=?)|(?P<word>[^\s()"\[\]<>:]+)""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_BETWEEN = re.compile(r"\[\s*(\S+)\s+TO\s+(\S+)\s*\]")
_KNOWN = f"{', '.join(KEYWORDS + NUMBERS)} and {ATTRIBUTES}<name>"


class Token(NamedTuple):
    """A token and its offset."""

    kind: str
    text: str
    at: int


def parse(text: str) -> Query:
    """The tree of a query; an empty text matches all records.

    Raises query_invalid, with the place of the error, and query_too_costly.
    """
    if len(text) > _LONGEST:
        raise Failure(Code.QUERY_TOO_COSTLY, f"the query has more than {_LONGEST} characters")
    tokens = _tokens(text)
    if not tokens:
        return All()
    parser = _Parser(tokens, len(text))
    query = parser.either(0)
    if token := parser.next():
        _wrong(token.at, f"{token.text} is not expected here")
    return query


def _tokens(text: str) -> list[Token]:
    tokens, at = list[Token](), 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match or not match.lastgroup:
            quote = text[at] == '"'
            _wrong(
                at, "the quote does not end" if quote else f"{text[at]} is not expected here; quote it if it is text"
            )
        if match.lastgroup != "space":
            tokens.append(Token(match.lastgroup, match[match.lastgroup], at))
        at = match.end()
    return tokens


def _wrong(at: int, why: str) -> NoReturn:
    raise Failure(
        Code.QUERY_INVALID, f"character {at + 1}: {why}", [Violation("/query", f"at character {at + 1}: {why}")]
    )


@dataclass
class _Parser:
    tokens: list[Token]
    end: int
    place: int = 0
    terms: int = field(default=0)

    def peek(self) -> Token | None:
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def next(self) -> Token | None:
        token = self.peek()
        self.place += 1
        return token

    def takes(self, word: str) -> bool:
        token = self.peek()
        if token and token.kind == "word" and token.text == word:
            self.place += 1
            return True
        return False

    def either(self, deep: int) -> Query:
        found = [self.both(deep)]
        while self.takes("OR"):
            found.append(self.both(deep))
        return found[0] if len(found) == 1 else Or(tuple(found))

    def both(self, deep: int) -> Query:
        found = [self.negated(deep)]
        while True:
            joined = self.takes("AND")
            token = self.peek()
            if not joined and (not token or token.kind == "close" or (token.kind, token.text) == ("word", "OR")):
                return found[0] if len(found) == 1 else And(tuple(found))
            found.append(self.negated(deep))

    def negated(self, deep: int) -> Query:
        if deep > _DEEPEST:
            raise Failure(Code.QUERY_TOO_COSTLY, f"the query is nested deeper than {_DEEPEST} levels")
        return Not(self.negated(deep + 1)) if self.takes("NOT") else self.single(deep)

    def single(self, deep: int) -> Query:
        token = self.next()
        if not token:
            _wrong(self.end, "something is missing at the end")
        if token.kind == "open":
            return self.bracket(token, deep)
        self.terms += 1
        if self.terms > _MOST_TERMS:
            raise Failure(Code.QUERY_TOO_COSTLY, f"the query has more than {_MOST_TERMS} terms")
        match token.kind:
            case "name":
                return self.of_field(token)
            case "phrase":
                return _words(token, _plain(token.text), False)
            case "word" if token.text not in ("AND", "OR"):
                prefix = token.text.endswith("*")
                return _words(token, token.text.removesuffix("*"), prefix)
        _wrong(token.at, f"{token.text} is not expected here")

    def bracket(self, token: Token, deep: int) -> Query:
        inner = self.either(deep + 1)
        closing = self.next()
        if not closing or closing.kind != "close":
            _wrong(closing.at if closing else self.end, f"the bracket of character {token.at + 1} does not end")
        return inner

    def of_field(self, token: Token) -> Query:
        name = token.text
        attribute = name.startswith(ATTRIBUTES) and len(name) > len(ATTRIBUTES)
        if not attribute and name not in KEYWORDS + NUMBERS:
            _wrong(token.at, f"there is no field {name}; there are {_KNOWN}; quote it if it is text")
        value = self.next()
        if not value or value.at != token.at + len(name) + 1:
            _wrong(token.at + len(name) + 1, f"{name} needs a value")
        match value.kind:
            case "compare":
                return self.compared(name, value)
            case "range":
                return _between(name, value)
            case "phrase":
                return _equal(name, value, _plain(value.text), False)
            case "word":
                return _equal(name, value, value.text.removesuffix("*"), value.text.endswith("*"))
        _wrong(value.at, f"{value.text} is no value; quote it if it is one")

    def compared(self, name: str, sign: Token) -> Query:
        value = self.next()
        if not value or value.kind != "word" or value.at != sign.at + len(sign.text):
            _wrong(sign.at + len(sign.text), f"{sign.text} needs a number")
        bound = _number(name, value.text, value.at)
        if sign.text[0] == ">":
            return Range(name, bound, None, with_low=sign.text == ">=")
        return Range(name, None, bound, with_high=sign.text == "<=")


def _plain(phrase: str) -> str:
    return _ESCAPE.sub(r"\1", phrase[1:-1])


def _words(token: Token, text: str, prefix: bool) -> Query:
    words = tuple(words_of(text))
    if not words:
        _wrong(token.at, f"{token.text} has no letter or digit")
    if "*" in text and token.kind != "phrase":
        _wrong(token.at, "a wildcard stands at the end of a word only")
    if prefix and (len(words) > 1 or len(words[0]) < 2):
        _costly(token.at, "a wildcard needs one word of at least two characters before it")
    return Words(words, prefix)


def _costly(at: int, why: str) -> NoReturn:
    raise Failure(Code.QUERY_TOO_COSTLY, f"character {at + 1}: {why}")


def _equal(name: str, token: Token, value: str, prefix: bool) -> Query:
    if not value:
        _wrong(token.at, f"{name} needs a value")
    if name in NUMBERS:
        bound = _number(name, value, token.at)
        return Range(name, bound, bound)
    if "*" in value and token.kind != "phrase":
        _wrong(token.at, "a wildcard stands at the end of a value only")
    if prefix and len(value) < 2:
        _costly(token.at, "a wildcard needs at least two characters before it")
    return Field(name, value.upper() if name == "severity" else value, prefix)


def _between(name: str, token: Token) -> Query:
    match = _BETWEEN.fullmatch(token.text)
    if not match:
        _wrong(token.at, "a range is written [1 TO 5]; * is no bound")
    low, high = (None if text == "*" else _number(name, text, token.at) for text in match.groups())
    return Range(name, low, high)


def _number(name: str, text: str, at: int) -> float:
    if not (name in (*NUMBERS, "status") or name.startswith(ATTRIBUTES)):
        _wrong(at, f"{name} is not a number")
    found = number(text)
    if found is None:
        _wrong(at, f"{text} is not a number")
    return found
