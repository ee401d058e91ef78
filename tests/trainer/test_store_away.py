"""A training whose store goes away is neither lost nor done again."""

from pathlib import Path

import pytest

from tests.support.house import house, until
from tests.support.storages import own_server, settings
from tests.trainer.conftest import fill
from tests.trainer.steps import stage, submit, succeeds_at_once, waits_for

pytestmark = pytest.mark.far
ONE = {"AIMASS_TRAINER_WORKERS": "1"}


@pytest.mark.parametrize("begun", [False, True], ids=["before it is fetched", "before it is kept"])
async def test_a_training_waits_for_its_store(tmp_path: Path, begun: bool) -> None:
    with own_server(tmp_path / "s3") as server:
        env = settings("far", server.address)
        await fill(tmp_path / "home", **env)
        async with house(tmp_path / "home", "data", "trainer", **ONE, **env) as running:
            if not begun:
                server.kill()
            job = await submit(running)
            if begun:
                await until(lambda: stage(running, job))
                server.kill()
            await waits_for(running, job, "the store")
            server.start()

            await succeeds_at_once(running, job)
