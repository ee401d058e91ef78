"""What a stack is, as settings say; and what its archive refuses before a server is asked."""

import base64
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from aimass import Failure as Refusal
from aimass import backup
from services import SERVICES
from services.kit.adapters import Storage
from services.kit.bucket_s3 import PIECE, Bucket, Stored
from services.kit.config import ConfigError
from services.kit.digests import digest_of, name_of
from services.kit.errors import Code, Failure
from services.kit.running import Process
from services.kit.sealed_objects import SealedObjects
from services.kit.stack import Stack, command, read, stack_of, writing
from services.kit.stack.offsets_kafka import READERS, counted
from services.kit.stack.writing import FORMAT
from services.logs.ingest.api import TOPICS
from tests.support.storages import settings as settings_of_blobs
from tests.support.storages import storage


def key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def settings(home: Path, **other: str) -> dict[str, str]:
    nowhere = "postgresql+psycopg://nobody:word@127.0.0.1:9/none"
    urls = {f"AIMASS_{service.upper()}_DATABASE_URL": nowhere for service in SERVICES}
    return {
        **urls,
        "AIMASS_HOME": str(home),
        "AIMASS_BUS_URL": "kafka://127.0.0.1:9",
        "AIMASS_BLOBS_URL": "s3://far/prefix?endpoint=http://127.0.0.1:9",
        "AIMASS_GATEWAY_PEPPER": key(),
        "AIMASS_SECRETS_KEY": key(),
        **other,
    }


def archive(file: Path, stack: Stack, form: int | str = FORMAT, **fields: object) -> Path:
    with backup.new(file) as made:
        made.seal({"format": form, "secrets": dict(stack.secrets), "databases": {}, **fields})
    return file


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("AIMASS_BLOBS_URL", ""),
        ("AIMASS_BUS_URL", ""),
        ("AIMASS_BUS_URL", "grpc://127.0.0.1:9"),
        ("AIMASS_DATA_DATABASE_URL", ""),
        ("AIMASS_LOGS_DATABASE_URL", "sqlite:///logs.db"),
        ("AIMASS_GATEWAY_PEPPER", ""),
        ("AIMASS_SECRETS_KEY", ""),
        ("AIMASS_SECRETS_KEY", "c2hvcnQ="),
    ],
)
def test_what_is_no_stack_is_refused_by_the_name_of_its_setting(tmp_path: Path, setting: str, value: str) -> None:
    with pytest.raises(ConfigError, match=setting):
        stack_of(settings(tmp_path, **{setting: value}))


def test_an_archive_names_its_secrets_and_does_not_tell_them(tmp_path: Path) -> None:
    env = settings(tmp_path)
    env |= {"AIMASS_SECRETS_OLD_KEYS": key()}
    marks = stack_of(env).secrets

    assert len(stack_of(env).old) == 1
    assert not [mark for mark in stack_of(env).old if mark in str(env)]
    assert set(marks) == {"AIMASS_GATEWAY_PEPPER", "AIMASS_SECRETS_KEY"}
    assert stack_of(env).secrets == marks
    assert not [mark for mark in marks.values() if mark in str(env)]


@pytest.mark.parametrize("setting", ["AIMASS_GATEWAY_PEPPER", "AIMASS_SECRETS_KEY"])
def test_a_stack_with_another_secret_takes_no_archive(tmp_path: Path, setting: str) -> None:
    env = settings(tmp_path)
    file = archive(tmp_path / "all.aimass", stack_of(env))

    with pytest.raises(Failure, match=f"{setting} is not the one"):
        read(stack_of(env | {setting: key()}), file)


def test_an_archive_of_a_change_of_keys_asks_for_the_old_ones_as_well(tmp_path: Path) -> None:
    env, old = settings(tmp_path), [key(), key()]
    changing = env | {"AIMASS_SECRETS_OLD_KEYS": ", ".join(old)}
    stack = stack_of(changing)
    file = archive(tmp_path / "all.aimass", stack, old_keys=sorted(stack.old))

    for some in ("", old[0], f"{key()},{old[1]}"):
        with pytest.raises(Failure, match="AIMASS_SECRETS_OLD_KEYS lacks a key"):
            read(stack_of(env | {"AIMASS_SECRETS_OLD_KEYS": some}), file)
    for more in (changing, env | {"AIMASS_SECRETS_OLD_KEYS": f"{key()},{old[1]},{old[0]}"}):
        with pytest.raises(Failure, match="a database cannot be used"):  # all keys are there: servers are asked
            read(stack_of(more), file)


def test_the_archive_of_a_home_folder_is_none_of_a_stack_and_the_other_way_round(tmp_path: Path) -> None:
    stack = stack_of(settings(tmp_path / "home"))
    with pytest.raises(Refusal, match="unsupported_format"):
        read(stack, archive(tmp_path / "near", stack, form=1))
    with pytest.raises(Refusal, match="unsupported_format"):
        backup.read(archive(tmp_path / "far", stack), tmp_path / "back")


def test_of_the_records_neither_the_index_nor_what_is_written_aside_is_archived(tmp_path: Path) -> None:
    stack = stack_of(settings(tmp_path))
    for name in ("forgotten", "forgotten.new", "records/000.seg", "records/000.new", "index/v1/meta.json"):
        (stack.records / name).parent.mkdir(parents=True, exist_ok=True)
        (stack.records / name).write_bytes(b"[]")
    with backup.new(tmp_path / "all.aimass") as made:
        writing._records(made, stack.records)
        names = [entry["path"] for entry in made.entries]

    assert names == ["logs-store/forgotten", "logs-store/records/000.seg"]


def test_a_changed_byte_is_found_before_a_server_is_asked(tmp_path: Path) -> None:
    stack = stack_of(settings(tmp_path))
    file = tmp_path / "all.aimass"
    with backup.new(file) as made:
        rows = tmp_path / "rows"
        rows.write_bytes(b"a\tb\n" * 100)
        with rows.open("rb") as content:
            made.add("databases/data/source", content, 400, 0o600)
        made.seal({"format": FORMAT, "secrets": dict(stack.secrets)})
    content_of = file.read_bytes()
    file.write_bytes(content_of.replace(b"a\tb", b"a\tc", 1))

    with pytest.raises(Refusal, match="digest_mismatch"):
        read(stack, file)


def test_an_archive_that_is_written_to_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "all.aimass"
    with backup.new(file) as made:
        (tmp_path / "rows").write_bytes(b"a\tb\n" * 2**18)
        with (tmp_path / "rows").open("rb") as content:
            made.add("rows", content, 2**20, 0o600)
        made.seal({"format": FORMAT})

    with backup.held(file, FORMAT) as held:
        assert b"".join(held.pieces("rows")) == b"a\tb\n" * 2**18
        file.write_bytes(file.read_bytes().replace(b"a\tb", b"a\tc"))
        with pytest.raises(Refusal, match="changed while it was read"):
            list(held.pieces("rows"))


def test_whoever_keeps_offsets_is_waited_for(tmp_path: Path) -> None:
    process = Process(SERVICES, {"AIMASS_HOME": str(tmp_path / "home")})
    groups = {"logs": frozenset(TOPICS)}  # it reads everything, by a loop of its own
    for name, app in process._apps.items():
        for index, listener in enumerate(app.listeners):
            if not listener.broadcast:
                groups[f"{name}-{index}" if index else name] = frozenset(listener.topics)
    process.runtime.identity.close()

    assert groups == READERS


def test_telemetry_does_not_keep_a_backup_from_its_moment() -> None:
    assert counted({("aimass.telemetry.v1", 0): 7, ("aimass.data.v1", 1): 2}) == {("aimass.data.v1", 1): 2}


def test_the_command_says_what_is_wrong_and_leaves_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "all.aimass"
    assert command(["--backup"], {}) == 2
    assert command(["--backup", str(file)], {"AIMASS_HOME": str(tmp_path)}) == 2
    assert command(["--restore", str(file)], settings(tmp_path)) == 1
    assert command(["--restore", "/proc/self/mem"], settings(tmp_path)) == 1
    assert command(["--backup", str(file)], settings(tmp_path)) == 1

    printed = capsys.readouterr().err
    assert "AIMASS_BLOBS_URL" in printed
    assert "there is no archive" in printed
    assert "/proc/self/mem: input/output error" in printed
    assert "kafka cannot be asked" in printed
    assert [path for path in tmp_path.iterdir() if "backup" in path.name or "aimass" in path.name] == []


class Turn(Bucket):
    """A bucket in which something happens while an object is fetched that was listed: after so many pieces of it."""

    name, pieces = "", 0
    happens: Callable[[], Awaitable[object]]
    asked: ClassVar[Counter[str]] = Counter()  # of each kind of question

    async def get(self, name: str) -> bytes:
        self.asked["get"] += 1
        if name == self.name and not self.pieces:
            await self._turn()
        return await super().get(name)

    async def stat(self, name: str) -> Stored:
        self.asked["stat"] += 1
        return await super().stat(name)

    async def read(self, name: str, size: int = -1) -> AsyncIterator[bytes]:
        size = size if size >= 0 else (await self.stat(name)).size
        left = self.pieces if name == self.name else -1
        if left == 0:
            await self._turn()
        async for piece in super().read(name, size):
            yield piece
            left -= 1
            if left == 0:
                await self._turn()

    async def _turn(self) -> None:
        self.name = ""
        await self.happens()


@pytest.fixture
def env() -> dict[str, str]:
    return settings_of_blobs("sealed")


@pytest.fixture
def stored(tmp_path: Path, env: dict[str, str]) -> Iterator[Storage]:
    made = storage(tmp_path, env)
    yield made
    made.blobs.close()


@pytest.fixture
def stack(tmp_path: Path, env: dict[str, str]) -> Stack:
    bucket = Turn(env["AIMASS_BLOBS_URL"], env["AIMASS_BLOBS_ACCESS_KEY"], env["AIMASS_BLOBS_SECRET_KEY"])
    return replace(stack_of(settings(tmp_path, **env)), bucket=bucket)


async def archived(
    stack: Stack, folder: Path, name: str = "", happens: Callable[[], Awaitable[object]] | None = None
) -> list[str]:
    """The objects that an archive has which was written while this happened, just before that object was fetched."""
    if happens:
        stack.bucket.name, stack.bucket.happens = name, happens  # type: ignore[attr-defined]
    scratch = folder / secrets.token_hex(4)
    scratch.mkdir()
    with backup.new(folder / f"{scratch.name}.aimass") as made:
        await writing._files(made, stack, scratch)
        return [entry["path"].removeprefix("objects/") for entry in made.entries]


@pytest.mark.far
async def test_sealed_blobs_and_their_keys_are_archived_and_damage_is_noticed_without_naming_a_plain_digest(
    stored: Storage, stack: Stack, tmp_path: Path
) -> None:
    blob = f"blobs/{name_of('acme', await stored.blobs.put('acme', b'hello'))}"

    assert await archived(stack, tmp_path) == [blob, "keys/acme/1"]
    lying = bytearray(await stack.bucket.get(blob))
    lying[-1] ^= 1
    await stack.bucket.put(blob, bytes(lying))
    with pytest.raises(Failure, match="has been damaged in its store"):
        await archived(stack, tmp_path)


@pytest.mark.far
async def test_a_disk_that_has_no_room_for_an_object_is_named(stack: Stack, tmp_path: Path) -> None:
    await stack.bucket.put("keys/acme/1", b"wrapped")
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "0").symlink_to("/dev/full")

    with pytest.raises(Failure) as caught:
        await anext(aiter(writing._fetched(stack.bucket, await stack.bucket.list("keys"), tmp_path / "scratch")))
    assert (caught.value.code, caught.value.detail) == (Code.STORAGE_FULL, f"{tmp_path}: the disk is full")


@pytest.mark.far
@pytest.mark.parametrize(("size", "asked"), [(5, {"get": 2}), (PIECE + 5, {"get": 1, "stat": 1})])
async def test_an_object_is_asked_for_once_and_a_large_one_looked_at_once_more(
    stored: Storage, stack: Stack, tmp_path: Path, size: int, asked: dict[str, int]
) -> None:
    """Beside it, the key of its tenant is fetched."""
    blob = f"blobs/{name_of('acme', await stored.blobs.put('acme', secrets.token_bytes(size)))}"
    stack.bucket.asked = Counter()  # type: ignore[attr-defined]

    assert await archived(stack, tmp_path) == [blob, "keys/acme/1"]
    assert stack.bucket.asked == asked  # type: ignore[attr-defined]


@pytest.mark.far
async def test_sealed_tables_are_archived_as_they_lie_and_damage_is_noticed(
    stored: Storage, stack: Stack, tmp_path: Path
) -> None:
    objects, rows = SealedObjects(stack.bucket, stored.keys), tmp_path / "rows"
    rows.write_bytes(b"rows of somebody")
    part = f"tables/acme/default/flights/r1/part-00000-{digest_of(b'rows of somebody')[7:23]}.parquet"
    entry = f"tables/acme/default/flights/_delta_log/{0:020d}.json"
    await objects.upload("acme", part, rows)
    await objects.put("acme", entry, b"{}")

    assert await archived(stack, tmp_path) == [entry, part, "keys/acme/1"]
    for name in (part, entry):
        whole = await stack.bucket.get(name)
        await stack.bucket.put(name, whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(Failure, match="has been damaged in its store"):
            await archived(stack, tmp_path)
        await stack.bucket.put(name, whole)
    rows.write_bytes(b"rows of others")
    await objects.upload("acme", part, rows)
    with pytest.raises(Failure, match="has been damaged in its store"):
        await archived(stack, tmp_path)


@pytest.mark.far
async def test_keys_are_archived_behind_the_records_that_may_be_sealed_with_a_new_one(
    stored: Storage, stack: Stack, tmp_path: Path
) -> None:
    await stored.blobs.put("acme", b"hello")
    segment = stack.records / "records" / "0.seg"
    segment.parent.mkdir(parents=True)
    segment.write_bytes(b"sealed")

    assert (await archived(stack, tmp_path))[1:] == ["logs-store/records/0.seg", "keys/acme/1"]


@pytest.mark.far
async def test_a_tenant_that_is_shredded_while_an_archive_is_written_is_in_it_as_one_without_keys(
    stored: Storage, stack: Stack, tmp_path: Path
) -> None:
    assert stored.keys
    mine, other = await stored.blobs.put("acme", b"hello"), await stored.blobs.put("rival", b"hello")
    await stored.keys.rotate("acme", 1)
    await stored.keys.rotate("acme", 2)

    async def shred() -> None:
        await stored.keys.shred("acme")  # type: ignore[union-attr]

    found = await archived(stack, tmp_path, "keys/acme/2", shred)

    assert found == [
        *(f"blobs/{name_of(*one)}" for one in (("acme", mine), ("rival", other))),
        "keys/acme/0",
        "keys/rival/1",
    ]


@pytest.mark.far
async def test_a_blob_that_is_gone_holds_up_an_archive_if_its_tenant_has_keys(
    stored: Storage, stack: Stack, tmp_path: Path
) -> None:
    assert stored.keys
    digest = await stored.blobs.put("acme", b"hello")
    blob = f"blobs/{name_of('acme', digest)}"

    async def delete() -> None:
        await stored.blobs.delete("acme", digest)

    async def shred() -> None:
        await delete()
        await stored.keys.shred("acme")  # type: ignore[union-attr]

    with pytest.raises(Failure, match=f"{blob} went away"):
        await archived(stack, tmp_path, blob, delete)
    await stored.blobs.put("acme", b"hello")
    assert await archived(stack, tmp_path, blob, shred) == ["keys/acme/0"]


@pytest.mark.far
async def test_a_key_that_is_lost_is_no_tenant_that_was_shredded(stored: Storage, stack: Stack, tmp_path: Path) -> None:
    await stored.blobs.put("acme", b"hello")

    async def lose() -> None:
        await stack.bucket.delete(["keys/acme/1"])

    with pytest.raises(Failure, match="keys/acme/1 went away"):
        await archived(stack, tmp_path, "keys/acme/1", lose)


@pytest.mark.far
@pytest.mark.parametrize(("size", "pieces"), [(5, 0), (PIECE + 5, 1)])
async def test_what_is_sealed_while_it_is_fetched_is_archived_whole_with_its_key(
    stored: Storage, stack: Stack, env: dict[str, str], tmp_path: Path, size: int, pieces: int
) -> None:
    plain, data = storage(tmp_path, env | {"AIMASS_SECRETS_KEY": ""}), secrets.token_bytes(size)
    blob = f"blobs/{name_of('acme', await plain.blobs.put('acme', data))}"
    plain.blobs.close()
    stack.bucket.pieces = pieces  # type: ignore[attr-defined]

    found = await archived(stack, tmp_path, blob, lambda: stored.blobs.put("acme", data))

    assert found == [blob, "keys/acme/1"]
