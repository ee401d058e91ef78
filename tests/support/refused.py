"""Calls that have to fail."""

from collections.abc import Awaitable

import pytest

from services.kit.errors import Code, Failure


async def refused(call: Awaitable[object]) -> Failure:
    """The failure that a call ends with."""
    with pytest.raises(Failure) as caught:
        await call
    return caught.value


async def code_of(call: Awaitable[object]) -> Code:
    """Its code."""
    return (await refused(call)).code
