"""One registry and one inference instance for the tests of a module, and a tenant of his own for each test."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.kit.timestamps import uuid7
from tests.support.house import House, house
from tests.support.tenants import Tenant


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    home = tmp_path_factory.mktemp("home")
    async with house(home, "registry", "inference", AIMASS_INFERENCE_UNLOAD_SECONDS="0.05") as running:
        yield running


@pytest.fixture
def acme(pair: House) -> Tenant:
    return Tenant(pair, f"acme-{uuid7()[-12:]}")


@pytest.fixture
def other(pair: House) -> Tenant:
    return Tenant(pair, f"other-{uuid7()[-12:]}")
