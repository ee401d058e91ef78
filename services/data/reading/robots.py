"""What robots.txt of a site allows (RFC 9309). Pure."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.data.reading.addresses import escaped

LARGEST = 500 * 2**10  # bytes that are read of it
SECONDS = 86_400.0  # that it is believed
_LINES = re.compile(r"\r\n|\r|\n")
_TOKEN = re.compile(r"[A-Za-z_-]+")
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{0,9})?\Z")
_SITEMAPS = 50


@dataclass(frozen=True)
class Rule:
    """A pattern of paths: `pieces` lie between its asterisks."""

    allow: bool
    length: int
    pieces: tuple[str, ...]
    ends: bool

    def matches(self, target: str) -> bool:
        """Whether a path with its query begins as the pattern says; in a time that grows with their lengths only."""
        first, *others = self.pieces
        if not target.startswith(first):
            return False
        at = len(first)
        if not others:
            return at == len(target) or not self.ends
        for piece in others[:-1]:
            at = target.find(piece, at)
            if at < 0:
                return False
            at += len(piece)
        if self.ends:
            return len(target) - len(others[-1]) >= at and target.endswith(others[-1])
        return target.find(others[-1], at) >= 0


@dataclass(frozen=True)
class Robots:
    """The rules for one agent, longest first, and of those that are as long the ones that allow."""

    rules: Sequence[Rule] = ()
    delay: float = 0.0  # seconds between requests
    sitemaps: Sequence[str] = ()

    def allows(self, target: str) -> bool:
        """Whether the agent may ask for a path with its query."""
        if target == "/robots.txt":
            return True
        return next((rule.allow for rule in self.rules if rule.matches(target)), True)

    @property
    def digest(self) -> str:
        """Changes with what is allowed."""
        return hashlib.sha256(repr((self.rules, self.sitemaps)).encode()).hexdigest()[:16]


class _Group:
    def __init__(self) -> None:
        self.agents, self.rules, self.delays = set[str](), list[Rule](), list[float]()


def parse(body: bytes, agent: str) -> Robots:
    """What a file says to an agent: all groups that name it, or else those for everybody."""
    groups, sitemaps = [_Group()], list[str]()
    if len(body) >= LARGEST:
        # A rule that was cut would be another rule.
        body = body[: max(body.rfind(b"\n", 0, LARGEST), body.rfind(b"\r", 0, LARGEST), 0)]
    for line in _LINES.split(body.decode("utf-8", "replace").removeprefix("\ufeff")):
        name, colon, value = line.partition("#")[0].partition(":")
        name, value = name.strip().lower(), value.strip()
        if not colon:
            continue
        group = groups[-1]
        if name == "user-agent":
            if group.rules or "" in group.agents:
                groups.append(group := _Group())
            group.agents.add(value if value == "*" else (_TOKEN.match(value) or [value])[0].lower())
        elif name in ("allow", "disallow"):
            # One that is empty forbids nothing, and ends the list of agents all the same.
            group.agents |= set() if value else {""}
            group.rules += [_rule(name == "allow", value)] if value else []
        elif name == "crawl-delay" and _NUMBER.match(value):
            group.delays.append(float(value))
        elif name == "sitemap" and len(sitemaps) < _SITEMAPS:
            sitemaps.append(value)
    chosen = [group for group in groups if agent in group.agents] or [group for group in groups if "*" in group.agents]
    rules = [rule for group in chosen for rule in group.rules]
    delays = [delay for group in chosen for delay in group.delays]
    # No longer than the file is believed: otherwise nobody would read that it says less by now.
    delay = min(max(delays, default=0.0), SECONDS)
    return Robots(tuple(sorted(rules, key=lambda one: (-one.length, not one.allow))), delay, sitemaps)


def _rule(allow: bool, text: str) -> Rule:
    ends = text.endswith("$")
    pattern = escaped(text.removesuffix("$") if ends else text)
    pattern = pattern if pattern[:1] in ("/", "*") else f"/{pattern}"
    return Rule(allow, len(text), tuple(re.split(r"\*+", pattern)), ends)
