"""Callers with permissions on some objects need for a branch what they need for the data set that it is a branch of."""

import contextlib
import inspect
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from services.data.datasets.service import DataSets
from services.kit import contract
from services.kit.auth import Principal
from services.kit.errors import Forbidden
from services.kit.rpc import Call

_OBJECT = re.compile(r"data-sets/{(\w+)}\Z")


class OfParents:
    """A servicer behind this check."""

    def __init__(self, servicer: Any, fields: Mapping[str, str], data_sets: DataSets) -> None:
        """`fields`: of requests, by the names of RPCs, what names a data set."""
        self._servicer, self._fields, self._data_sets = servicer, fields, data_sets

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._servicer, name)
        if name not in self._fields:
            return method

        async def checked(request: Any, call: Call) -> Any:
            await self._check(call, getattr(request, self._fields[name]))
            return await method(request, call)

        async def streamed(request: Any, call: Call) -> AsyncIterator[Any]:
            await self._check(call, getattr(request, self._fields[name]))
            async with contextlib.aclosing(method(request, call)) as items:
                async for item in items:
                    yield item

        return streamed if inspect.isasyncgenfunction(method) else checked

    async def _check(self, call: Call, data_set: str) -> None:
        await check_permitted(self._data_sets, call.principal, call.method.policy.permission, data_set)


async def check_permitted(data_sets: DataSets, principal: Principal, permission: str, data_set: str) -> None:
    """Raises forbidden for who may not do this with a data set, or with the one that it is a branch of."""
    if principal.may(permission):  # on all
        return
    names = (data_set, await data_sets.parent(principal.scope, data_set) or data_set)
    if not all(principal.may(permission, f"data-sets/{name}") for name in names):
        raise Forbidden(f"{permission} is not permitted on {data_set}")


def of_parents(servicers: Mapping[str, Any], data_sets: DataSets) -> dict[str, Any]:
    """Servicers by the full names of their services, with this check where calls name one data set."""
    found = {}
    for service, servicer in servicers.items():
        methods = [(method, _OBJECT.match(method.policy.resource)) for method in contract.methods(service)]
        fields = {method.descriptor.name: named.group(1) for method, named in methods if named}
        found[service] = OfParents(servicer, fields, data_sets) if fields else servicer
    return found
