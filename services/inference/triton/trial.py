"""A version tried on the server that will run it: that it runs, and that a row's answer does not depend on others."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from services.inference.domain import batches
from services.inference.domain.tensors import Signature, Values
from services.inference.triton.server import Refused
from services.kit import graphs
from services.kit.errors import InvalidValue

# Values by input in the order of the signature -> those of every output.
Run = Callable[[Sequence[Values]], Awaitable[list[Values]]]
_WARM = (1, 64)  # rows of the calls before the first one that counts
BATCHES = (1, 2, 7, 17, 64)


async def warm_up(run: Run, signature: Signature) -> None:
    """Raises invalid_value when the graph does not run."""
    for count in _WARM:
        try:
            await run(await _values(signature, count, 2))
        except Refused as error:
            raise InvalidValue(f"the graph does not run: {' '.join(str(error).split())[:300]}") from None


async def invariant(run: Run, signature: Signature) -> bool:
    """Whether rows give the same bytes one by one and in batches; False also when the graph takes no values of ours."""
    for most in (100, 2):  # integers may be indexes into a small table
        values = await _values(signature, BATCHES[-1], most)
        try:
            return await _same(run, values)
        except Refused:
            continue
    return False


async def _same(run: Run, values: Sequence[Values]) -> bool:
    alone = [await run(_rows(values, row, row + 1)) for row in range(BATCHES[-1])]
    for size in BATCHES:
        together = await run(_rows(values, 0, size))
        for given, parts in zip(together, zip(*alone[:size], strict=True), strict=True):
            if given.shape[:1] != (size,) or given != batches.join(parts):
                return False
    return True


def _rows(values: Sequence[Values], first: int, last: int) -> list[Values]:
    return [batches.cut(value, first, last) for value in values]


async def _values(signature: Signature, count: int, most: int) -> list[Values]:
    return await asyncio.to_thread(_made, signature, count, most)


def _made(signature: Signature, count: int, most: int) -> list[Values]:
    arrays = graphs.rows(signature.inputs, count, most)
    return [_value(spec.datatype, arrays[spec.name]) for spec in signature.inputs]


def _value(datatype: str, array: Any) -> Values:
    data = array.ravel().tolist() if array.dtype == object else array.tobytes()
    return Values(datatype, array.shape, data)
