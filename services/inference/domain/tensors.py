"""Whether tensors are what a version takes."""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from services.kit.errors import InvalidValue, Violation
from services.kit.tensors import SIZES, Spec, Tensor


class Signature(NamedTuple):
    """What a version takes and gives, and whether its rows may be run together with others."""

    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    batch_invariant: bool = False
    checked_on: str = ""


class Values(NamedTuple):
    """A tensor's values for an engine: bytes, or texts for BYTES."""

    datatype: str
    shape: tuple[int, ...]
    data: bytes | list[str]


def fit(signature: Signature, inputs: Sequence[Tensor]) -> tuple[int, list[Values]]:
    """The number of rows and the values in the order of the signature. Raises invalid_value that names the input."""
    given = {tensor.name: tensor for tensor in inputs}
    if len(given) != len(inputs) or len(given) != len(signature.inputs):
        _refuse_names(signature, inputs, given)
    rows, found = -1, []
    for spec in signature.inputs:
        tensor = given.get(spec.name)
        if tensor is None:
            _refuse_names(signature, inputs, given)
            raise AssertionError
        if tensor.datatype != spec.datatype:
            raise _wrong(tensor, f"must be {spec.datatype}, not {tensor.datatype[:20]}")
        _check_shape(spec, tensor)
        if spec.shape[:1] == (-1,):
            if rows not in (-1, tensor.shape[0]):
                raise _wrong(tensor, f"has {tensor.shape[0]} rows where others have {rows}")
            rows = tensor.shape[0]
        found.append(_values(tensor))
    return max(rows, 1), found


def _refuse_names(signature: Signature, inputs: Sequence[Tensor], given: dict[str, Tensor]) -> None:
    known = [spec.name for spec in signature.inputs]
    rules = [f"the input {name[:128]} is missing" for name in known if name not in given]
    rules += [f"there is no input {name[:128]}" for name in given if name not in known]
    if len(given) != len(inputs):
        rules.append("an input comes twice")
    if rules:
        more = f" (and {len(rules) - 1} more)" if len(rules) > 1 else ""
        raise InvalidValue(rules[0] + more, [Violation("/inputs", rule) for rule in rules[:100]])


def _check_shape(spec: Spec, tensor: Tensor) -> None:
    if spec.shape[:1] == (-1,) and spec.shape[1:] == tensor.shape[1:] and min(tensor.shape, default=0) > 0:
        return  # the usual case: all sizes but the number of rows are fixed
    fits = len(spec.shape) == len(tensor.shape) and all(
        size == want if want >= 0 else size > 0 for size, want in zip(tensor.shape, spec.shape, strict=True)
    )
    if not fits:
        raise _wrong(tensor, f"must have the shape {list(spec.shape)}, not {list(tensor.shape)[:10]}")


def _values(tensor: Tensor) -> Values:
    count = prod(tensor.shape)
    if tensor.datatype == "BYTES":
        return Values("BYTES", tensor.shape, _texts(tensor, count))
    expected = count * SIZES[tensor.datatype]
    if len(tensor.raw) != expected:
        raise _wrong(tensor, f"must have {expected} bytes for its shape, not {len(tensor.raw)}")
    if tensor.datatype == "BOOL" and tensor.raw.translate(None, b"\0\1"):
        raise _wrong(tensor, "must be 0 or 1 in each byte")
    return Values(tensor.datatype, tensor.shape, tensor.raw)


def _texts(tensor: Tensor, count: int) -> list[str]:
    try:
        return decode(tensor.raw, count)
    except UnicodeDecodeError:
        raise _wrong(tensor, "is not text in UTF-8") from None
    except ValueError:
        raise _wrong(tensor, f"must have {count} elements, each after its length in 4 bytes") from None


def _wrong(tensor: Tensor, rule: str) -> InvalidValue:
    name = tensor.name[:128]
    return InvalidValue(f"the input {name} {rule}", [Violation(f"/inputs/{name}", rule)])


def decode(raw: bytes, count: int) -> list[str]:
    """The elements of a BYTES tensor. Raises UnicodeDecodeError, or ValueError for broken framing."""
    found: list[str] = []
    add, at, size = found.append, 0, len(raw)
    if count * 4 > size:
        raise ValueError("fewer bytes than lengths")
    for _ in range(count):
        start = at + 4
        at = start + int.from_bytes(raw[at:start], "little")
        if at > size or start > size:
            raise ValueError("an element ends behind the end")
        add(raw[start:at].decode())
    if at != size:
        raise ValueError("bytes are left over")
    return found


def encode(texts: Sequence[str]) -> bytes:
    """The raw bytes of a BYTES tensor."""
    parts: list[bytes] = []
    for text in texts:
        data = text.encode()
        parts += (len(data).to_bytes(4, "little"), data)
    return b"".join(parts)
