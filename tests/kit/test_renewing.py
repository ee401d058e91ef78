"""Secrets that an old key has sealed, sealed anew while services run."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

from services.kit.errors import Unavailable
from services.kit.renewing import Kept, keep_renewing, renew
from services.kit.secrets import Vault
from tests.support.failing import Failing
from tests.support.house import until

OLD, NEW = (base64.b64encode(letter * 32).decode() for letter in (b"a", b"b"))


@contextlib.asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Work that goes on for ever, for as long as this takes."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path, NEW, OLD)


async def test_a_store_that_is_away_is_looked_at_again(vault: Vault) -> None:
    look = Failing(1, Unavailable("the database is away"))
    async with beside(keep_renewing(vault, "secrets", look, 60.0, again=0.01)), asyncio.timeout(10):
        await look.done.wait()
    assert look.begun == 2


async def test_nothing_is_looked_at_without_an_old_key(tmp_path: Path) -> None:
    async def look() -> int:
        raise AssertionError

    await keep_renewing(Vault(tmp_path, NEW), "secrets", look, 60.0)


async def test_what_opens_is_sealed_anew_and_what_is_current_or_opens_with_no_key_stays(
    tmp_path: Path, vault: Vault
) -> None:
    put = dict[str, bytes]()

    def kept(name: str, key: str) -> Kept:
        async def replace(new: bytes) -> None:
            put[name] = new

        return Kept(name, name, Vault(tmp_path, key).seal(name.encode(), name), replace)

    lost = base64.b64encode(b"c" * 32).decode()
    done = await renew(vault, [kept("lost", lost), kept("current", NEW), kept("old", OLD)])

    assert done == (1, 1)
    assert list(put) == ["old"]
    assert Vault(tmp_path, NEW).open(put["old"], "old") == b"old"


@pytest.mark.parametrize(
    ("left", "said"),
    [(0, "secrets are encrypted with the current secrets key"), (2, "2 of the secrets cannot be decrypted with any")],
)
async def test_the_log_says_that_all_are_sealed_anew_only_where_all_are(
    vault: Vault, caplog: pytest.LogCaptureFixture, left: int, said: str
) -> None:
    caplog.set_level("INFO", "services.kit.renewing")

    async def look() -> int:
        return left

    async with beside(keep_renewing(vault, "secrets", look, 60.0)):
        await until(lambda: caplog.messages)

    assert [message[: len(said)] for message in caplog.messages] == [said]
