"""Copies of far files: here a folder is what is far."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.kit.copies import Copies
from services.kit.digests import digest_of, name_of
from services.kit.errors import Code, Failure


class Far:
    """A far store that counts what is fetched from it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.fetched: list[str] = []

    def add(self, name: str, data: bytes) -> str:
        self.files[name] = data
        return digest_of(data)

    async def fetch(self, name: str, place: Path) -> None:
        self.fetched.append(name)
        await asyncio.sleep(0.01)
        if name not in self.files:
            raise Failure(Code.NOT_FOUND, f"there is no {name}")
        place.write_bytes(self.files[name])


@pytest.fixture
def far() -> Far:
    return Far()


@pytest.fixture
def copies(tmp_path: Path) -> Iterator[Copies]:
    made = Copies(tmp_path, 100)
    yield made
    made.close()


def kept(folder: Path) -> set[str]:
    return {path.name for path in (folder / "kept").rglob("*") if path.is_file()}


def left(folder: Path) -> list[Path]:
    """What is neither a copy nor a folder that is always there."""
    return [*(folder / "held").iterdir()]


def kill_a_holder(folder: Path, data: bytes) -> None:
    """A process that holds bytes, and is killed while it fetches others."""
    code = f"""
import asyncio, pathlib
from services.kit.copies import Copies
from services.kit.digests import digest_of
async def fetch(name, place):
    place.write_bytes({data!r})
    if name == "other":
        print("here", flush=True)
        await asyncio.sleep(60)
async def main():
    async with Copies(pathlib.Path({str(folder)!r}), 100).hold("acme", {{"a": digest_of({data!r})}}, fetch) as view:
        async with Copies(pathlib.Path({str(folder)!r}), 100).hold("acme", {{"other": digest_of(b"")}}, fetch):
            pass
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"here\n"
        process.kill()


def grow_older(folder: Path) -> None:
    """As if nothing had been put into it for a while."""
    before = time.time() - 15
    os.utime(folder, (before, before))


async def test_a_holder_has_his_files_under_their_names(copies: Copies, far: Far) -> None:
    wanted = {"run/a": far.add("run/a", b"1"), "run/b": far.add("run/b", b"2"), "c": far.add("c", b"1")}
    async with copies.hold("acme", wanted, far.fetch) as folder:
        assert [(folder / name).read_bytes() for name in wanted] == [b"1", b"2", b"1"]


async def test_a_file_is_fetched_once_for_all_who_want_it(copies: Copies, far: Far) -> None:
    wanted = {"a": far.add("a", b"1")}

    async def use() -> None:
        async with copies.hold("acme", wanted, far.fetch):
            await asyncio.sleep(0.01)

    await asyncio.gather(*(use() for _ in range(10)))
    await use()
    assert far.fetched == ["a"]


async def test_another_process_uses_the_same_copy(copies: Copies, far: Far, tmp_path: Path) -> None:
    wanted, other = {"a": far.add("a", b"1")}, Copies(tmp_path, 100)
    for one in (copies, other):
        async with one.hold("acme", wanted, far.fetch) as folder:
            assert (folder / "a").read_bytes() == b"1"
    other.close()

    assert far.fetched == ["a"]


async def test_a_tenant_gets_no_copy_of_another(copies: Copies, far: Far) -> None:
    wanted = {"a": far.add("a", b"1")}
    for tenant in ("acme", "umbrella"):
        async with copies.hold(tenant, wanted, far.fetch):
            pass

    assert far.fetched == ["a", "a"]


async def test_bytes_that_are_not_those_of_the_digest_are_given_to_nobody(
    copies: Copies, far: Far, tmp_path: Path
) -> None:
    wanted = {"a": far.add("a", b"1"), "b": far.add("b", b"2")}
    far.files["b"] = b"3"
    with pytest.raises(Failure) as caught:
        async with copies.hold("acme", wanted, far.fetch):
            pytest.fail("nothing is held")

    assert caught.value.code is Code.DIGEST_MISMATCH
    assert digest_of(b"3")[7:] not in kept(tmp_path)
    assert not left(tmp_path)


async def test_a_copy_that_its_disk_has_changed_is_fetched_again(far: Far, tmp_path: Path) -> None:
    wanted = {"a": far.add("a", b"1")}
    for _ in range(2):
        copies = Copies(tmp_path, 100)
        async with copies.hold("acme", wanted, far.fetch) as folder:
            assert (folder / "a").read_bytes() == b"1"
        copies.close()
        path = tmp_path / "kept" / name_of("acme", wanted["a"])
        path.chmod(0o644)
        path.write_bytes(b"x")

    assert far.fetched == ["a", "a"]


async def test_what_was_used_longest_ago_goes_first(copies: Copies, far: Far, tmp_path: Path) -> None:
    digests = {name: far.add(name, name.encode() * 40) for name in "abcd"}
    for name in "abac":
        async with copies.hold("acme", {name: digests[name]}, far.fetch):
            pass

    assert kept(tmp_path) == {digests["a"][7:], digests["c"][7:]}


async def test_who_fetches_nothing_does_not_look_through_all_copies(copies: Copies, far: Far, tmp_path: Path) -> None:
    wanted = {"a": far.add("a", b"1")}
    async with copies.hold("acme", wanted, far.fetch):
        pass
    (tmp_path / "kept" / "of another process").write_bytes(bytes(200))
    for _ in range(2):
        async with copies.hold("acme", wanted, far.fetch):
            assert "of another process" in kept(tmp_path)
    async with copies.hold("acme", {"b": far.add("b", b"2")}, far.fetch):
        assert "of another process" not in kept(tmp_path)


async def test_what_somebody_holds_is_not_taken_away(copies: Copies, far: Far, tmp_path: Path) -> None:
    digests = {name: far.add(name, name.encode() * 60) for name in "abc"}
    async with copies.hold("acme", {"a": digests["a"]}, far.fetch) as folder:
        for name in "bc":
            async with copies.hold("acme", {name: digests[name]}, far.fetch):
                pass
        assert (folder / "a").read_bytes() == b"a" * 60
        assert digests["a"][7:] in kept(tmp_path)
    async with copies.hold("acme", {"c": digests["c"]}, far.fetch):
        pass

    assert digests["a"][7:] not in kept(tmp_path)


async def test_more_than_the_bound_can_be_held_at_once(copies: Copies, far: Far) -> None:
    wanted = {name: far.add(name, name.encode() * 90) for name in "abc"}
    async with copies.hold("acme", wanted, far.fetch) as folder:
        assert [(folder / name).stat().st_size for name in wanted] == [90, 90, 90]


async def test_a_fetch_that_fails_or_is_broken_off_leaves_nothing(copies: Copies, far: Far, tmp_path: Path) -> None:
    wanted = {"a": far.add("a", b"1"), "gone": digest_of(b"gone")}
    with pytest.raises(Failure, match="there is no gone"):
        async with copies.hold("acme", wanted, far.fetch):
            pytest.fail("nothing is held")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02), copies.hold("acme", {"b": far.add("b", b"2")}, far.fetch):
            await asyncio.sleep(5)

    assert not left(tmp_path)


async def test_a_disk_that_is_full_is_said_so(copies: Copies, tmp_path: Path) -> None:
    async def fetch(_: str, place: Path) -> None:
        place.write_bytes(b"1")
        Path("/dev/full").write_bytes(b"1")

    with pytest.raises(Failure) as caught:
        async with copies.hold("acme", {"a": digest_of(b"1")}, fetch):
            pytest.fail("nothing is held")

    assert caught.value.code is Code.STORAGE_FULL
    assert not left(tmp_path)


async def test_what_a_killed_process_held_or_was_fetching_is_dropped_by_the_next_one(
    copies: Copies, far: Far, tmp_path: Path
) -> None:
    kill_a_holder(tmp_path, b"x" * 80)
    async with copies.hold("acme", {}, far.fetch):
        pass
    assert len(left(tmp_path)) == 2, "they may not have had their locks yet"
    for folder in left(tmp_path):
        grow_older(folder)
    async with copies.hold("acme", {"a": far.add("a", b"y" * 80)}, far.fetch):
        pass

    assert not left(tmp_path)
    assert kept(tmp_path) == {digest_of(b"y" * 80)[7:]}


async def test_what_a_living_process_holds_is_not_dropped(copies: Copies, far: Far, tmp_path: Path) -> None:
    async with copies.hold("acme", {"a": far.add("a", b"1")}, far.fetch) as folder:
        grow_older(folder)
        other = Copies(tmp_path, 100)
        async with other.hold("acme", {}, far.fetch):
            pass
        other.close()

        assert (folder / "a").read_bytes() == b"1"
