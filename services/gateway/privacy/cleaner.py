"""Filters personal data at the doors: in requests, in answers, and in what is logged of them."""

import asyncio
from collections.abc import Callable, Sequence
from math import prod

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.kit.contract import HTTP_BODY, Method
from services.kit.errors import Code, Failure, InvalidValue, Violation
from services.kit.privacy.filtering import Filter
from services.kit.privacy.messages import clean
from services.kit.privacy.policies import Policies
from services.kit.tensors import Tensor
from services.kit.timestamps import uuid7

_OWN = "PrivacyFilters/"  # their patterns are about such data and hold none
_PACKAGE = "aimass.v1."
# Above this many bytes or texts filtering leaves the event loop: a short text takes a fifth of a millisecond.
_LARGE, _MANY = 1024, 8
_LENGTH = 4  # bytes in front of each text of a BYTES tensor


class Cleaner:
    """Applies the filters of the tenant of a request. A tenant without any costs one look-up."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    def watches(self, tenant: str) -> bool:
        """Whether a tenant has any filter."""
        return self._policies.recorded(tenant) is not None

    def recorded(self, tenant: str) -> Filter | None:
        """The filter of what is logged of a tenant's requests; None without one."""
        return self._policies.recorded(tenant)

    def text(self, tenant: str, text: str) -> str:
        """A text as it is logged."""
        through = self._policies.recorded(tenant)
        return through(text) if through else text

    def named(self, tenant: str, request_id: str) -> str:
        """The request id, or a new one for an id that contains personal data."""
        return request_id if self.text(tenant, request_id) == request_id else uuid7()

    def failure(self, tenant: str, failure: Failure) -> Failure:
        """A failure with filtered texts: they may repeat parts of the request."""
        through = self._policies.recorded(tenant)
        return worded(failure, through) if through else failure

    async def request(self, method: Method, message: Message, tenant: str) -> None:
        """Filters a request in place. Raises invalid_value for what is refused."""
        name = _name(method)
        if (through := self._policies.method(tenant, name)) and not name.startswith(_OWN):
            await _cleaned(message, through)

    async def answer(self, method: Method, reply: bytes, tenant: str) -> bytes:
        """A method's answer, filtered where the filter says so."""
        name = _name(method)
        through = self._policies.answer(tenant, "method", name)
        if through is None or name.startswith(_OWN):
            return reply
        message = GetMessageClass(method.gives).FromString(reply)
        await _cleaned(message, through)
        return message.SerializeToString()

    def check_readable(self, method: Method, tenant: str) -> None:
        """Raises failed_precondition where answers are to be filtered but are rows as bytes, which it cannot read."""
        rows = method.gives.full_name == HTTP_BODY and method.policy.HasField("reserves")
        if rows and self._policies.answer(tenant, "method", _name(method)):
            detail = "a privacy filter covers the answers of this method, and a stream of rows cannot be filtered"
            raise Failure(Code.FAILED_PRECONDITION, detail)

    async def inputs(self, tenant: str, model: str, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """A prediction's inputs. Raises invalid_value for what is refused, or for texts without their lengths."""
        through = self._policies.model(tenant, model)
        return await _filtered(inputs, through, "/inputs") if through else inputs

    def alters(self, tenant: str, model: str) -> bool:
        """Whether a model's outputs are filtered: as they are, nothing may keep them."""
        return self._policies.answer(tenant, "model", model) is not None

    async def outputs(self, tenant: str, model: str, outputs: list[Tensor]) -> list[Tensor]:
        """Its outputs, filtered where the filter says so."""
        through = self._policies.answer(tenant, "model", model)
        return await _filtered(outputs, through, "/outputs") if through else outputs


def worded(failure: Failure, through: Callable[[str], str]) -> Failure:
    """A failure whose texts went through a filter."""
    failure.detail = through(failure.detail)
    failure.violations = tuple(Violation(through(v.pointer), through(v.rule)) for v in failure.violations)
    return failure


def _name(method: Method) -> str:
    return method.path[1:].removeprefix(_PACKAGE)


async def _cleaned(message: Message, through: Filter) -> None:
    if message.ByteSize() > _LARGE:
        await asyncio.to_thread(clean, message, through)
    else:
        clean(message, through)


async def _filtered(tensors: Sequence[Tensor], through: Filter, at: str) -> list[Tensor]:
    texts = [tensor for tensor in tensors if tensor.datatype == "BYTES"]
    size = sum(len(tensor.raw) for tensor in texts)
    if size > _LARGE + _LENGTH * _MANY or (size > _LENGTH * _MANY and any(_several(tensor) for tensor in texts)):
        return await asyncio.to_thread(_each, tensors, through, at)
    return _each(tensors, through, at)


def _several(tensor: Tensor) -> bool:
    return prod(tensor.shape) > _MANY


def _each(tensors: Sequence[Tensor], through: Filter, at: str) -> list[Tensor]:
    return [
        tensor._replace(raw=_texts(tensor, through, f"{at}/{index}")) if tensor.datatype == "BYTES" else tensor
        for index, tensor in enumerate(tensors)
    ]


def _texts(tensor: Tensor, through: Filter, at: str) -> bytes:
    """The texts of a BYTES tensor, each after its length. What is no UTF-8 keeps its bytes."""
    raw, place, parts, index = tensor.raw, 0, list[bytes](), 0
    while place < len(raw):
        begin = place + _LENGTH
        end = begin + int.from_bytes(raw[place:begin], "little")
        if end > len(raw):
            rule = "must have each text after its length"
            raise InvalidValue(f"{tensor.name} {rule}", [Violation(at, rule)])
        text = raw[begin:end].decode(errors="surrogateescape")
        kept = through(text, f"{at}/data/{index}").encode(errors="surrogateescape")
        parts += (len(kept).to_bytes(_LENGTH, "little"), kept)
        place, index = end, index + 1
    return b"".join(parts)
