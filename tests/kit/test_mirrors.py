"""Files of a place on this machine, by both adapters."""

from pathlib import Path

import pytest

from services.kit.digests import digest_of
from services.kit.errors import Code, Failure
from tests.support.storages import settings, storage


async def test_a_folder_is_its_own_mirror(tmp_path: Path) -> None:
    stored = storage(tmp_path, settings("near"))
    async with stored.mirrors.hold("acme", str(tmp_path / "table"), {}) as folder:
        assert folder == tmp_path / "table"
    stored.blobs.close()


@pytest.mark.far
async def test_files_of_a_place_in_the_bucket_are_brought_here(tmp_path: Path) -> None:
    stored = storage(tmp_path, settings("far"))
    assert stored.bucket
    wanted = {f"run/_part-{number}": digest_of(bytes([number]) * number) for number in range(1, 30)}
    for number, name in enumerate(wanted, 1):
        await stored.bucket.put(f"tables/t/{name}", bytes([number]) * number)
    async with stored.mirrors.hold("acme", f"{stored.bucket.uri}/tables/t", wanted) as folder:
        assert [(folder / name).stat().st_size for name in wanted] == list(range(1, 30))
    stored.blobs.close()


@pytest.mark.far
@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("{uri}/tables/none", Code.NOT_FOUND),
        ("{uri}/tables/t", Code.DIGEST_MISMATCH),
        ("s3://other/tables/t", Code.INVALID_VALUE),
        ("{uri}", Code.INVALID_VALUE),
        ("{uri}x/tables/t", Code.INVALID_VALUE),
        ("/etc", Code.INVALID_VALUE),
        ("{uri}/../other", Code.INVALID_VALUE),
    ],
)
async def test_files_of_other_places_are_not(tmp_path: Path, place: str, code: Code) -> None:
    stored = storage(tmp_path, settings("far"))
    assert stored.bucket
    await stored.bucket.put("tables/t/a", b"other bytes")
    with pytest.raises(Failure) as caught:
        async with stored.mirrors.hold("acme", place.format(uri=stored.bucket.uri), {"a": digest_of(b"a")}):
            pytest.fail("nothing is held")

    assert caught.value.code is code
    stored.blobs.close()


@pytest.mark.far
@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/../../b", "", "a//b", "."])
async def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    stored = storage(tmp_path, settings("far"))
    assert stored.bucket
    with pytest.raises(Failure) as caught:
        async with stored.mirrors.hold("acme", f"{stored.bucket.uri}/tables/t", {name: digest_of(b"a")}):
            pytest.fail("nothing is held")

    assert caught.value.code is Code.INVALID_VALUE
    stored.blobs.close()
