"""One registry for the tests of a module, and a tenant of his own for each test."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.kit.timestamps import uuid7
from tests.support.house import House, house
from tests.support.tenants import Tenant


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def registry(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house(tmp_path_factory.mktemp("home"), "registry") as running:
        yield running


@pytest.fixture
def acme(registry: House) -> Tenant:
    return Tenant(registry, f"acme-{uuid7()[-12:]}")


@pytest.fixture
def other(registry: House) -> Tenant:
    return Tenant(registry, f"other-{uuid7()[-12:]}")
