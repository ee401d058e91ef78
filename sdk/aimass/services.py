"""The services of the contract as attributes of a client. `services.pyi` has their types and is generated."""

from collections.abc import Callable
from typing import Any

from aimass import contract
from aimass.calls import Calls


class Services:
    """`client.models`, `client.sources` and so on: an attribute for each service."""

    _call: Callable[..., Any]
    _iterate: Callable[..., Any]

    def __getattr__(self, name: str) -> Calls:
        if name.startswith("_") or name not in contract.services():
            raise AttributeError(f"{type(self).__name__} has no {name}; it has {', '.join(contract.services())}")
        calls = Calls(name, self._call, self._iterate)
        self.__dict__[name] = calls
        return calls

    def __dir__(self) -> list[str]:
        return sorted([*super().__dir__(), *contract.services()])
