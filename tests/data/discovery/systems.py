"""Logs of systems that do not exist, from a seed, with what is true of each line: headers of every fashion, some
messages often and most rarely, values of one word and of several, lists, states, and messages that differ in a word.
"""

import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from services.data.discovery.templates import Template
from services.data.discovery.words import words_of

_SLOT = re.compile(r"{(\w+)(?::([^{}]*))?}")
_USERS = ["anna", "boris", "chen", "dilek", "emma", "farid", "greta", "hugo", "ines", "jonas", "kofi", "lena", "milo"]
_HOSTS = ["vega", "rigel", "altair", "deneb", "mira", "capella"]
_ZONES = ["stars.example", "lab.example", "north.example"]
_NOUNS = ["basket", "tariff", "voucher", "parcel", "meter", "tenant", "pallet", "invoice", "gauge", "locker", "garage"]
_PARTS = ["Planner", "Courier", "Weigher", "Sorter", "Labeller", "Router", "Checker", "Packer"]


class System(NamedTuple):
    """How its lines begin, and what they say."""

    header: str
    messages: Sequence[str]


class Corpus(NamedTuple):
    """Lines, the number of the message of each, and what stands behind its header."""

    lines: list[str]
    truth: list[int]
    messages: list[str]


Slots = Mapping[str, Callable[[random.Random], str]]


SYSTEMS: Mapping[str, System] = {
    "parcels": System(
        "{date} {time},{milli} {level} [{thread}] com.example.{part}: ",
        [
            "parcel {id:P-} weighed {int} g by scale {int}",
            "parcel {id:P-} sorted into lane {int}",
            "lane {int} blocked by parcel {id:P-}",
            "lane {int} cleared",
            "route of {id:P-} computed in {ms}: {int} stops, {float} km",
            "label printed for {user} at {path}",
            "label rejected for {user}: {nouns}",
            "courier {user} signed in from {ip}",
            "courier {user} signed out",
            "stock of {noun} fell to {int}",
            "retry {int} of 5 for {url}",
            "manifest {uuid} sealed with {int} parcels",
            "manifest {uuid} sent to {hostport}",
            "door opened",
            "door closed",
        ],
    ),
    "ferries": System(
        "{month} {day} {time} {host} {part}[{int}]: ",
        [
            "ferry {word} left pier {int} with {int} cars",
            "ferry {word} reached pier {int} after {int} minutes",
            "ticket {hex} refused: expired on {date}",
            "ticket {hex} refused: used before",
            "connection from {ip} port {int}",
            "connection from {ip} lost; user={user} tries={int}",
            "tide table loaded from {path}",
            "session opened for user {user} by (uid={int})",
            "session closed for user {user}",
            "wind {float} m/s from {int} degrees",
            "crew list of {word}: {users}",
            "gate sensor {int} answered {bool}",
        ],
    ),
    "meters": System(
        "{compact}|{part}|{int}|",
        [
            "reading {int} kWh",
            "reading refused, meter {id:M} unknown",
            "sum of day = {int}##{int}##{int}##{int}",
            "battery low",
            "battery replaced",
            "onTick:{int} {int} {int}",
            "pushed {int} rows to {hostport} in {ms}",
            "clock drift {float}s corrected",
            "firmware {id:v} installed",
            "error type {int}, {nouns}",
        ],
    ),
    "tunnel": System(
        "[{weekday} {month} {day} {time} 2026] [{level}] ",
        [
            "fan {int} started",
            "fan {int} stopped",
            "smoke value {float} above {float} in section {int}",
            "[camera {ip}] picture stored as {path}",
            "[camera {ip}] no picture for {int} s",
            "lights of section {int} set to {int}%",
            "barrier {id:B} moved: up",
            "barrier {id:B} moved: down",
            "call answered by {user} after {int} s",
        ],
    ),
    "store": System(
        "{level1}{mmdd} {time}.{micro} {int} {part}.go:{int}] ",
        [
            'put "{noun}/{hex}" size={int} etag="{uuid}"',
            'get "{noun}/{hex}" from {ipport} took {ms}',
            'delete "{noun}/{hex}" by {user}',
            "compaction of level {int} began: {int} tables, {size}",
            "compaction of level {int} ended: {int} tables, {size}",
            "lease {uuid} renewed until {date}T{time}Z",
            "lease {uuid} lost to {host}",
            "peer {ipport} is now {state}",
            "snapshot {int} written to {path} ({size}, {ms})",
            "checksum of {path} is wrong: want {hex}, have {hex}",
            "admission: {int} waiting, {int} running, oldest {float}s",
        ],
    ),
    "plain": System(
        "",
        [
            "user {user} bought {int} items for {float} EUR",
            "user {user} returned order {int}",
            "order {int} shipped via {noun}",
            "order {int} cancelled: {nouns}",
            "payment {uuid} accepted in {ms}",
            "payment {uuid} declined by bank {int}",
            "cache miss for key {noun}:{int}",
            "mail to {mail} queued",
            "GET {path} {int} {ms}",
            "POST {path} {int} {ms}",
            "worker {int} up",
            "worker {int} down",
        ],
    ),
}


def corpus(system: System, seed: int, size: int = 2000, slots: Slots | None = None) -> Corpus:
    """Lines of a system, whose messages are as unequally frequent as words of a language; `slots` are more of them."""
    values = _Values(random.Random(seed), slots or {})
    order = list(range(len(system.messages)))
    values.random.shuffle(order)
    weights = [1 / (place + 1) for place in range(len(order))]
    truth = values.random.choices(order, weights, k=size)
    fronts, messages = list[str](), list[str]()
    for message in truth:
        fronts.append(values.fill(system.header))
        messages.append(values.fill(system.messages[message]))
    return Corpus([front + said for front, said in zip(fronts, messages, strict=True)], truth, messages)


def grouping_accuracy(found: Iterable[Sequence[int]], truth: Sequence[int]) -> float:
    """The share of lines whose group has all lines of their message, and no others."""
    whole: defaultdict[int, set[int]] = defaultdict(set)
    for line, message in enumerate(truth):
        whole[message].add(line)
    right = sum(len(group) for group in map(set, found) if group and group == whole[truth[next(iter(group))]])
    return right / len(truth)


def template_accuracy(found: Iterable[Template], made: Corpus, system: System) -> float:
    """The share of lines that are grouped right, with values where the message has them and nowhere else.

    What stands in front of a message may have been taken for a part of what stands in front of all.
    """
    whole = Counter(made.truth)
    right = 0
    for template in found:
        messages = {made.truth[line] for line in template.lines}
        if len(messages) > 1 or whole[message := messages.pop()] != len(template.lines):
            continue
        words = words_of(_SLOT.sub("0", system.messages[message]))
        if " ".join(words).endswith(" ".join(template.words)):
            right += len(template.lines)
    return right / len(made.lines)


class _Values:
    def __init__(self, source: random.Random, more: Slots) -> None:
        self.random, self._second, self._more = source, 1_790_000_000, more
        choose, number = source.choice, source.randint
        self._made: dict[str, Callable[[], str]] = {
            "int": lambda: str(number(0, choose((9, 999, 99_999)))),
            "float": lambda: f"{source.random() * 100:.{number(1, 4)}f}",
            "hex": lambda: f"0x{source.getrandbits(32):x}",
            "uuid": lambda: "-".join(f"{source.getrandbits(4 * n):0{n}x}" for n in (8, 4, 4, 4, 12)),
            "ip": lambda: ".".join(str(number(1, 254)) for _ in range(4)),
            "ipport": lambda: self.fill("{ip}:") + str(number(1024, 65_535)),
            "host": lambda: choose(_HOSTS),
            "hostport": lambda: f"{choose(_HOSTS)}.{choose(_ZONES)}:{number(1, 9999)}",
            "path": lambda: "".join(
                f"/{choose(_NOUNS)}{choose(('', str(number(1, 99))))}" for _ in range(number(2, 4))
            ),
            "url": lambda: f"https://{choose(_HOSTS)}.{choose(_ZONES)}/{choose(_NOUNS)}?n={number(1, 99)}",
            "mail": lambda: f"{choose(_USERS)}@{choose(_ZONES)}",
            "user": lambda: choose(_USERS),
            "users": lambda: ", ".join(choose(_USERS) for _ in range(number(1, 4))),
            "noun": lambda: choose(_NOUNS),
            "nouns": lambda: " ".join(choose(_NOUNS) for _ in range(number(1, 4))),
            "word": lambda: choose(_HOSTS).title(),
            "ms": lambda: f"{number(1, 9000)}ms",
            "size": lambda: f"{source.random() * 900:.1f} {choose(('KB', 'MB', 'GB'))}",
            "bool": lambda: choose(("true", "false")),
            "state": lambda: choose(("LEADER", "FOLLOWER", "CANDIDATE", "LEARNER")),
            "part": lambda: choose(_PARTS),
            "level": lambda: source.choices(("INFO", "WARN", "ERROR"), (8, 1, 1))[0],
            "level1": lambda: source.choices("IWE", (8, 1, 1))[0],
            "thread": lambda: choose(("main", f"pool-1-thread-{number(1, 9)}", f"handler {number(1, 30)} on 9000")),
            "milli": lambda: f"{number(0, 999):03}",
            "micro": lambda: f"{number(0, 999_999):06}",
            "date": lambda: self._clock("%Y-%m-%d"),
            "time": lambda: self._clock("%H:%M:%S"),
            "month": lambda: self._clock("%b"),
            "weekday": lambda: self._clock("%a"),
            "day": lambda: self._clock("%d"),
            "mmdd": lambda: self._clock("%m%d"),
            "compact": lambda: self._clock("%Y%m%d-%H:%M:%S"),
        }

    def fill(self, text: str) -> str:
        """A text with its slots filled; `{id:X}` is X with a number behind it."""
        self._second += self.random.randint(0, 1)
        return _SLOT.sub(self._value, text)

    def _value(self, slot: re.Match[str]) -> str:
        if slot[2]:
            return f"{slot[2]}{self.random.randint(1, 99_999)}"
        return self._more[slot[1]](self.random) if slot[1] in self._more else self._made[slot[1]]()

    def _clock(self, form: str) -> str:
        return time.strftime(form, time.gmtime(self._second))
