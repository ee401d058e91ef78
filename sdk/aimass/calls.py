"""Calls of methods: their options, headers and plans."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from aimass import contract
from aimass.contract import Method
from aimass.encoding import decode, prepare
from aimass.exchange import Plan, Send, exchange

_PATIENCE = 60.0  # seconds for a call with its retries, if the caller names no timeout
_OPTIONS = ("etag", "timeout", "idempotency_key")


@dataclass(frozen=True)
class Invocation:
    """A method with its arguments, and the options of this call."""

    method: Method
    arguments: Mapping[str, Any]
    etag: str = ""
    timeout: float | None = None
    idempotency_key: str = ""

    @classmethod
    def of(cls, method: Method, given: Mapping[str, Any]) -> "Invocation":
        """Separates fields of the request from options of the call. Raises TypeError if a required etag is missing."""
        fields = method.takes.fields_by_name
        options = {name: given[name] for name in _OPTIONS if name in given and name not in fields}
        if method.policy.etag_required and not options.get("etag"):
            raise TypeError(f"{method.name}() needs etag, as you last read it")
        return cls(method, {name: value for name, value in given.items() if name not in options}, **options)

    def request(self, accept: str = "application/json") -> Send:
        """The request. A keyed method gets an idempotency key, the same for all attempts."""
        prepared = prepare(self.method, self.arguments)
        headers = {"accept": accept}
        if prepared.media_type:
            headers["content-type"] = prepared.media_type
        if self.etag:
            headers["if-match"] = f'"{self.etag}"'
        if self.method.keyed:
            headers["idempotency-key"] = self.idempotency_key or str(uuid.uuid4())
        if self.timeout:
            headers["x-request-timeout"] = f"{self.timeout:g}"
        seconds = self.timeout or self.method.deadline + 5.0
        return Send(prepared.verb, prepared.path, prepared.query, headers, prepared.body, seconds)

    @property
    def budget(self) -> float:
        """Seconds for all attempts together."""
        return self.timeout or max(_PATIENCE, self.method.deadline + 5.0)

    def plan(self) -> Plan[Any]:
        """The plan of the call: its answer as a message. Raises Failure."""
        answer = yield from exchange(self.request(), self.budget)
        return decode(self.method.gives, answer.content)


def unary(service: str, name: str, **given: Any) -> Plan[Any]:
    """The plan of a call, by the names of service and method."""
    return Invocation.of(contract.method(service, name), given).plan()


def page(method: Method, given: Mapping[str, Any], token: str) -> Plan[tuple[list[Message], str]]:
    """The plan of a page of a list: its items, and the token of the next page, empty on the last."""
    assert method.items
    answer = yield from Invocation.of(method, {**given, "page_token": token or None}).plan()
    return list(getattr(answer, method.items.name)), str(answer.next_page_token)


class Calls:
    """The methods of one service, named as in the contract, and `iterate_...` for all pages of a list."""

    def __init__(self, service: str, call: Callable[..., Any], iterate: Callable[..., Any]) -> None:
        """`call` and `iterate` take a method and the caller's arguments."""
        self._methods, self._service = contract.services()[service], service
        self._call, self._iterate = call, iterate
        self._iterators = {m.iterator: m for m in self._methods.values() if m.items}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        perform, method = self._call, self._methods.get(name)
        if method is None:
            perform, method = self._iterate, self._iterators.get(name)
        if method is None:
            raise AttributeError(f"{self._service} has no {name}; it has {', '.join(dir(self))}")
        found = method

        def bound(**given: Any) -> Any:
            return perform(found, given)

        bound.__name__ = name
        bound.__doc__ = contract.comments().get(found.descriptor.full_name)
        return bound

    def __dir__(self) -> list[str]:
        return sorted([*self._methods, *self._iterators])
