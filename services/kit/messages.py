"""Length-prefixed messages between a parent and the work it started, from the parent's side. `child` is the other."""

from typing import Any

import orjson

from services.kit.child import LENGTH, RAW, Json
from services.kit.errors import Code, Failure, Violation

LARGEST = 64 * 2**20


def length_of(prefix: bytes) -> int:
    """How many bytes follow a prefix. Raises limit_exceeded when those are too many."""
    length = int(LENGTH.unpack(prefix)[0])
    if length > LARGEST:
        raise Failure(Code.LIMIT_EXCEEDED, "the work answered with more than 64 MiB")
    return length


def parse(body: bytes) -> tuple[Json | None, Any]:
    """The result with the milliseconds of processors that it took, or nothing with progress or bytes.

    Raises what the work raised.
    """
    if body.startswith(RAW):
        return None, body[len(RAW) :]
    message: Json = orjson.loads(body)
    if "result" in message:
        return dict(message["result"]), int(message.get("cpu_milliseconds", 0))
    if "failure" in message:
        failure = message["failure"]
        raise Failure.of(failure["code"], failure["detail"], [Violation(*pair) for pair in failure["violations"]])
    return None, message["progress"]
