"""Filters of personal data: what is found is masked, hashed so that it can still be joined on, or refused."""

import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib import import_module
from typing import NamedTuple

from services.kit import patterns
from services.kit.errors import Code, Failure, InvalidValue, Violation
from services.kit.privacy.finds import DIGITS, Detector, Find, apart
from services.kit.privacy.folding import Folded, fold

# Modules and functions of the detectors, by name, the most certain first: where two find the same, the first has it.
# They are loaded for the first filter: most gateways have none, and loading them takes a tenth of a start.
DETECTORS: Mapping[str, tuple[str, str]] = {
    "iban": ("payments", "accounts"),
    "card": ("payments", "cards"),
    "national_id": ("identities", "identities"),
    "email": ("addresses", "emails"),
    "ip": ("addresses", "machines"),
    "phone": ("phones", "numbers"),
    "name": ("names", "people"),
}
_NUMBERS, _FEWEST = frozenset({"iban", "card", "national_id", "phone"}), 6  # digits that each of them has
_DIGITS = 16  # of a hash: 64 bits


class Action(Enum):
    """What is done with what a detector finds."""

    MASK = "mask"
    HASH = "hash"
    REFUSE = "refuse"


class Rule(NamedTuple):
    """A detector and what is done with what it finds; a tenant's own detector has a pattern."""

    detector: str
    action: Action
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules that apply together; each detector occurs once."""

    rules: tuple[Rule, ...]

    @property
    def lenient(self) -> "Rules":
        """The same, but masking where they refuse: for what has happened already, such as log lines."""
        return Rules(tuple(r._replace(action=Action.MASK) if r.action is Action.REFUSE else r for r in self.rules))


def joined(rules: Sequence[Rules]) -> Rules:
    """The rules of several; of two for one detector the stricter one (refuse, mask, hash)."""
    order = (Action.REFUSE, Action.MASK, Action.HASH)
    found: dict[tuple[str, str], Rule] = {}
    for rule in (rule for one in rules for rule in one.rules):
        known = found.get((rule.detector, rule.pattern))
        if known is None or order.index(rule.action) < order.index(known.action):
            found[rule.detector, rule.pattern] = rule
    return Rules(tuple(found.values()))


@cache
def detector(name: str) -> Detector:
    """One of DETECTORS."""
    module, function = DETECTORS[name]
    found: Detector = getattr(import_module(f"services.kit.privacy.{module}"), function)
    return found


def check(detector: str, pattern: str, at: str = "") -> None:
    """Raises invalid_value for an unknown detector, or a built-in one with a pattern.

    Raises pattern_unsupported for a pattern that RE2 does not take, or that matches the empty text.
    """
    if not pattern:
        if detector not in DETECTORS:
            rule = f"must be one of {', '.join(DETECTORS)}, or have a pattern"
            raise InvalidValue(f"detector {rule}", [Violation(f"{at}/detector", rule)])
        return
    if detector in DETECTORS:
        raise InvalidValue(
            f"{detector} is built in", [Violation(f"{at}/pattern", "must be empty for a built-in detector")]
        )
    try:
        empty = patterns.compiled(pattern).search("") is not None
    except Failure as failure:
        raise Failure(failure.code, failure.detail, [Violation(f"{at}/pattern", "must be a pattern of RE2")]) from None
    if empty:
        rule = "must not find the empty text"
        raise Failure(Code.PATTERN_UNSUPPORTED, f"the pattern {rule}", [Violation(f"{at}/pattern", rule)])


class Filter:
    """Applies rules to texts of one tenant."""

    __slots__ = ("_actions", "_detectors", "_key", "_wordy")

    def __init__(self, rules: Rules, key: Callable[[], bytes]) -> None:
        """`key` gives the tenant's key for hashes."""
        self._key = key
        self._actions = {rule.detector: rule.action for rule in rules.rules}
        own = [_own(rule) for rule in rules.rules if rule.pattern]
        known = [name for name in DETECTORS if name in self._actions]
        self._detectors = [*own, *(detector(name) for name in known)]
        self._wordy = [*own, *(detector(name) for name in known if name not in _NUMBERS)]

    def __call__(self, text: str, at: str = "") -> str:
        """The text with personal data replaced. Raises invalid_value at the JSON pointer `at` if a rule refuses it."""
        if not text:
            return text
        found = self.finds(text)
        if not found:
            return text
        parts, place = list[str](), 0
        for find in found:
            parts += (text[place : find.start], self._instead(find, at))
            place = find.end
        return "".join([*parts, text[place:]])

    def finds(self, text: str) -> list[Find]:
        """Personal data in a text, in order, without overlaps. Takes time linear in its length."""
        folded, taken = fold(text), list[Find]()
        plenty = len(folded.seen) - len(folded.seen.translate(None, DIGITS)) >= _FEWEST
        for detector in self._detectors if plenty else self._wordy:
            if found := list(detector(folded)):
                taken = _added(taken, found)
        return taken

    def _instead(self, find: Find, at: str) -> str:
        action = self._actions[find.detector]
        if action is Action.REFUSE:
            rule = f"must hold nothing that the detector {find.detector} finds"
            raise InvalidValue(f"{at[1:].replace('/', '.') or 'the text'} {rule}", [Violation(at, rule)])
        if action is Action.HASH:
            return f"[{find.detector}:{self._hash(find)}]"
        return f"[{find.detector}]"

    def _hash(self, find: Find) -> str:
        value = f"{find.detector}\0{find.value}".encode(errors="surrogatepass")
        return hmac.new(self._key(), value, hashlib.sha256).hexdigest()[:_DIGITS]


def _own(rule: Rule) -> Detector:
    expression = patterns.compiled(rule.pattern)

    def found(folded: Folded) -> Iterator[Find]:
        # A lone surrogate has no bytes that RE2 could read.
        for match in expression.finditer(folded.text.encode(errors="replace").decode()):
            start, end = match.span()
            if end > start:
                yield Find(start, end, rule.detector, folded.text[start:end])

    return found


def _added(taken: list[Find], found: list[Find]) -> list[Find]:
    """`taken`, and those of `found` that overlap none of them, in order."""
    if not taken:
        return apart(found)
    kept, place = list[Find](), 0
    for find in apart(found):
        while place < len(taken) and taken[place].end <= find.start:
            place += 1
        if place == len(taken) or taken[place].start >= find.end:
            kept.append(find)
    return sorted([*taken, *kept])
