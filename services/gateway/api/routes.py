"""The table of REST routes, from the `google.api.http` rules of the contract."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from starlette.convertors import Convertor, register_url_convertor

from services.kit.contract import Method

_PART = re.compile(r"{(\w+)}")


@dataclass
class Entry:
    """One path and its methods by HTTP verb."""

    template: str
    verbs: dict[str, Method] = field(default_factory=dict)

    @property
    def allowed(self) -> str:
        """The value of `Allow`."""
        shown = [*self.verbs, *(["HEAD"] if "GET" in self.verbs else [])]
        return ", ".join(sorted(shown))


def table(methods: Iterable[Method]) -> list[Entry]:
    """Every path once, those with a verb of their own (`:undelete`) first."""
    found: dict[str, Entry] = {}
    for method in methods:
        if method.verb:
            found.setdefault(method.route, Entry(method.route)).verbs[method.verb] = method
    return sorted(found.values(), key=lambda entry: (":" not in entry.template, entry.template.count("{")))


def parameters(template: str) -> list[str]:
    """The fields that a path holds."""
    return _PART.findall(template)


def path(template: str, templates: Collection[str]) -> str:
    """The template as the router reads it: a part takes a colon only where no route could mean a verb by it."""
    verbs = any(other.startswith(f"{template}:") for other in templates)
    found = _PART.sub(r"{\1:part}", template)
    return found if verbs or not found.endswith(":part}") else found.removesuffix(":part}") + "}"


class PartConvertor(Convertor[str]):
    """A part of a path without a colon."""

    regex = "[^/:]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("part", PartConvertor())
