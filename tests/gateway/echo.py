"""Services that answer with what they were asked: the real contract behind real guards, for tests of the doors."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message_factory import GetMessageClass

from services.kit import contract
from services.kit.auth import Identity
from services.kit.contract import Method
from services.kit.errors import Code, Failure
from services.kit.rpc import Call, Guarded, guard

OWNERS = ("data", "trainer", "registry", "inference", "logs")
CHUNKS = (b"first ", b"second ", b"third")


class Echo:
    """A servicer of any service: fields that request and reply share are copied."""

    def __init__(self, service: str) -> None:
        self._methods = {method.descriptor.name: method for method in contract.methods(service)}
        self.seen: list[Call] = []
        # Request ids of calls that wait for ever, and of those that were given up.
        self.waiting: set[str] = set()
        self.given_up: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        method = self._methods.get(name)
        if method is None:
            raise AttributeError(name)
        return self._stream(method) if method.descriptor.server_streaming else self._unary(method)

    @contextlib.contextmanager
    def _patient(self, call: Call) -> Iterator[None]:
        self.waiting.add(call.request_id)
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            self.given_up.add(call.request_id)
            raise

    def _unary(self, method: Method) -> Any:
        async def answer(request: Any, call: Call) -> Any:
            self.seen.append(call)
            call.once(lambda reply: reply)
            if request.ByteSize() < 1000 and "broken" in str(request):
                raise RuntimeError("a bug with a secret in its text")
            if request.ByteSize() < 1000 and "patient" in str(request):
                with self._patient(call):
                    await asyncio.Event().wait()
            if getattr(request, "offset", 0) == 13:
                raise Failure(Code.WRONG_OFFSET, "the chunk does not fit", committed_size=7)
            reply: Any = GetMessageClass(method.gives)()
            for field in method.takes.fields:
                other = method.gives.fields_by_name.get(field.name)
                plain = not field.message_type and not field.is_repeated
                if other and other.type == field.type and plain and not other.is_repeated:
                    setattr(reply, field.name, getattr(request, field.name))
            if method.long_work:
                reply.operation = f"{method.owner}-0198"
            if "etag" in method.gives.fields_by_name:
                reply.etag = "7"
            if "committed_size" in method.gives.fields_by_name:
                reply.committed_size = len(request.body.data) if hasattr(request, "body") else 0
            return reply

        return answer

    def _stream(self, method: Method) -> Any:
        async def answers(request: Any, call: Call) -> AsyncIterator[Any]:
            self.seen.append(call)
            if method.descriptor.name.startswith("Snapshot"):
                return
            if "missing" in str(request):
                raise Failure(Code.NOT_FOUND, "there is nothing")
            for number, chunk in enumerate(CHUNKS):
                if ("silent" if number == 0 else "patient") in str(request) and number < 2:
                    with self._patient(call):
                        await asyncio.Event().wait()
                if "cut" in str(request) and number == 2:
                    raise Failure(Code.UNAVAILABLE, "the rest is away")
                if method.gives.full_name == "google.api.HttpBody":
                    yield HttpBody(content_type="text/plain", data=chunk)
                else:
                    reply = GetMessageClass(method.gives)()
                    first = method.gives.fields[0]
                    if first.type == first.TYPE_STRING:
                        setattr(reply, first.name, f"item-{number}")
                    yield reply

        return answers


def echoes(home: Path) -> tuple[dict[str, Guarded], dict[str, Echo]]:
    """Guarded methods of every service that is not the gateway's; operations are the trainer's."""
    identity = Identity("echo", home / "keys")
    names = [name for name in contract.services() if name != "aimass.v1.Bus"]
    found: dict[str, Echo] = {}
    guarded: dict[str, Guarded] = {}
    for name in names:
        owner = contract.methods(name)[0].owner
        if owner != "gateway":
            found[name] = Echo(name)
            audience = "trainer" if owner == "any" else owner
            guarded |= guard({name: found[name]}, identity, audience, lambda: datetime.now(UTC), None)
    return guarded, found
