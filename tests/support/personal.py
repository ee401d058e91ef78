"""A corpus of texts with personal data and of texts that only look like it, made from a seed.

Held out: its sentences, names, hosts and forms were written for it alone, before the detectors were run on them, and no
detector reads them. Names are drawn from lists of its own; how many of them the dictionary knows is told with the
figures.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.support import numbering

_DOCUMENT: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
EAST: dict[str, str] = _DOCUMENT["east"]


@dataclass(frozen=True)
class Sample:
    """A text, and where what of it is personal: start, end, detector."""

    text: str
    spans: tuple[tuple[int, int, str], ...] = ()


def corpus(seed: int, each: int = 400) -> list[Sample]:
    """`each` texts for each detector, and as many that hold nothing."""
    rng = Random(seed)
    made = [make(rng) for make in (_email, _phone, _card, _iban, _identity, _name, _ip) for _ in range(each)]
    misses, ends = _DOCUMENT["misses"], ["", ".", " ", f" ({rng.randrange(10, 99)})"]
    made += [Sample(rng.choice(misses) + rng.choice(ends)) for _ in range(each)]
    rng.shuffle(made)
    return made


def pairs() -> list[tuple[list[str], list[str]]]:
    """Given and family names of each locale."""
    return [(locale["given"].split(), locale["family"].split()) for locale in _DOCUMENT["names"]]


def _in(rng: Random, templates: list[str], value: str, detector: str) -> Sample:
    front, _, back = rng.choice(templates).partition("{}")
    return Sample(front + value + back, ((len(front), len(front) + len(value), detector),))


def _disguised(rng: Random, value: str) -> str:
    """Now and then with full-width characters, other digits, or joiners that nobody sees."""
    kind = rng.random()
    if kind < 0.08:
        return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in value)
    if kind < 0.16:
        place = rng.randrange(1, len(value))
        return value[:place] + rng.choice("\u200b\u200d\u2060\u00ad") + value[place:]
    if kind < 0.2:
        return value.translate({ord("0") + digit: 0x0660 + digit for digit in range(10)})
    if kind < 0.25:
        return value.replace(" ", "\u00a0").replace("-", "\u2011")
    return value


def _fours(number: str) -> list[str]:
    return [number[i : i + 4] for i in range(0, len(number), 4)]


def _email(rng: Random) -> Sample:
    given, family = rng.choice(pairs()[:10])
    first, last = rng.choice(given).lower(), rng.choice(family).lower()
    local = rng.choice(
        [f"{first}.{last}", f"{first[0]}{last}", f"{first}_{last[:3]}{rng.randrange(99)}", f"{last}+news"]
    )
    host, kind = rng.choice(_DOCUMENT["hosts"]), rng.random()
    if kind < 0.5:
        value = _disguised(rng, f"{local}@{host}")
    elif kind < 0.75:
        at = rng.choice([" (at) ", "[at]", " [at] ", "(@)", " {at} ", " (AT) "])
        dot = rng.choice([".", " (dot) ", "[dot]", " [DOT] ", "(punkt)"])
        value = f"{local.replace('+', '_')}{at}{host.replace('.', dot)}"
    elif kind < 0.92:
        value = f"{local.replace('.', ' dot ').replace('+', '_')} at {host.replace('.', ' dot ')}"
    else:
        value = f"{local} @ {host}" if kind < 0.96 else f"{local}%40{host}"
    return _in(rng, _DOCUMENT["reach"], value, "email")


def _phone(rng: Random) -> Sample:
    return _in(
        rng, _DOCUMENT["call"], _disguised(rng, rng.choice(_DOCUMENT["phones"]).format(numbering.text(rng, 3))), "phone"
    )


def _card(rng: Random) -> Sample:
    number, between = numbering.card(rng), rng.choice(["", " ", "-", " ", "."])
    return _in(
        rng,
        _DOCUMENT["number"],
        _disguised(rng, between.join(number[i : i + 4] for i in range(0, len(number), 4))),
        "card",
    )


def _iban(rng: Random) -> Sample:
    number, between = numbering.iban(rng), rng.choice(["", " ", " "])
    number = number.lower() if rng.random() < 0.1 else number
    return _in(
        rng,
        _DOCUMENT["number"],
        _disguised(rng, between.join(number[i : i + 4] for i in range(0, len(number), 4))),
        "iban",
    )


def _identity(rng: Random) -> Sample:
    return _in(rng, _DOCUMENT["number"], _disguised(rng, rng.choice(numbering.IDENTITIES)(rng)), "national_id")


def _ip(rng: Random) -> Sample:
    four = ".".join(str(rng.randrange(1, 255)) for _ in range(4))
    six = f"2001:db8:{rng.randrange(1, 65535):x}::{rng.randrange(1, 65535):x}:{rng.randrange(1, 65535):x}"
    return _in(rng, _DOCUMENT["number"], _disguised(rng, rng.choice([four, four, six, four.replace(".", "[.]")])), "ip")


def _name(rng: Random) -> Sample:
    if rng.random() < 0.2:
        country = rng.choice(list(EAST))
        return _in(rng, _DOCUMENT["about_east"][country], rng.choice(EAST[country].split()), "name")
    given, family = rng.choice(pairs())
    first, last = rng.choice(given), rng.choice(family)
    kind = rng.random()
    if kind < 0.72:
        value = f"{first} {last}"
    elif kind < 0.8:
        value = f"{first} {rng.choice('ABCDEKLMR')}. {last}" if first.isascii() else f"{first} {last}"
    elif kind < 0.86:
        value = f"{last}, {first}" if first[0].lower() != first[0] else f"{first} {last}"
    elif kind < 0.93:
        value = f"{first} {last}".upper()
    else:
        value = f"{first} {last}".lower()
    return _in(rng, _DOCUMENT["about"], value, "name")
