"""Reads bodies that differ from an earlier one in the values of their one input only.

A client writes the same JSON around other numbers each time. It was parsed once; now only the numbers are. The text
around them is compared byte for byte, and they have to be a JSON value of their own, so the result is the same as that
of parsing the whole body.
"""

import re
from typing import Any

import orjson

from services.gateway.api.oip_body import Asked, decode
from services.gateway.api.oip_values import Floats, pack
from services.gateway.traffic.domain.tensors import Fit
from services.kit.tensors import Tensor

_DATA = b'"data"'
_NUMBERS = re.compile(rb"\s*:\s*(\[[\[\]\d\s.,eE+-]*\])")
_MOST = 32_768  # bytes of a body that is remembered


class _Form:
    """The text around the values of one body."""

    __slots__ = ("after", "asked", "before", "datatype", "floats", "name", "shape", "size")

    def __init__(self, before: bytes, after: bytes, asked: Asked) -> None:
        self.before, self.after, self.asked = before, after, asked
        self.size = len(before) + len(after)
        tensor = asked.inputs[0]
        self.name, self.datatype, self.shape = tensor.name, tensor.datatype, tensor.shape
        self.floats = Floats(tensor.datatype, tensor.shape) if tensor.datatype in ("FP32", "FP64") else None

    def read(self, body: bytes) -> Asked | None:
        """The request, if the body has this form. Raises invalid_value for values that do not fit it."""
        if len(body) <= self.size or not (body.startswith(self.before) and body.endswith(self.after)):
            return None
        try:
            values = orjson.loads(body[len(self.before) : len(body) - len(self.after)])
        except orjson.JSONDecodeError:
            return None  # parsing the whole body says where the error is
        raw = self.floats.pack(values) if self.floats else b""
        raw = raw or pack(self.name, self.datatype, self.shape, values, "/inputs/0")
        return Asked(None, [Tensor(self.name, self.datatype, self.shape, raw)], self.asked.outputs, self.asked.binary)


class Forms:
    """The form of those with one head that came last."""

    __slots__ = ("_fit", "_form", "_json_size")

    def __init__(self, json_size: int | None) -> None:
        """`json_size` as `oip_body.decode` takes it."""
        self._json_size = json_size
        self._form: _Form | None = None
        self._fit = Fit()

    def decode(self, body: bytes) -> tuple[Asked, Fit | None]:
        """A request as `oip_body.decode` has it, and for one of the known form what is known of its fitting."""
        if self._form and (found := self._form.read(body)):
            return found, self._fit
        asked = decode(body, self._json_size)
        if self._json_size is None and len(body) <= _MOST and asked.id is None and len(asked.inputs) == 1:
            self._form, self._fit = _learn(body, asked), Fit()
        return asked, None


def _learn(body: bytes, asked: Asked) -> _Form | None:
    """The form of a body that was parsed; None if the place of its values is not certain."""
    if (at := body.find(_DATA)) < 0 or not (found := _NUMBERS.match(body, at + len(_DATA))):
        return None
    before, after = body[: found.start(1)], body[found.end(1) :]
    try:
        emptied: Any = orjson.loads(b"null".join((before, after)))
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if emptied["inputs"][0].get("data", "") is not None:
        return None  # it was the name of something else
    document["inputs"][0]["data"] = None
    return _Form(before, after, asked) if document == emptied else None
