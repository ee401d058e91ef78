import resource
import shutil
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aimass import Failure, backup
from aimass.backup import snapshot
from aimass.cli.main import build
from tests.support.server import ROOT


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    (folder / "blobs/acme/sha256/ab").mkdir(parents=True)
    (folder / "blobs/acme/sha256/ab/abcd").write_bytes(b"bytes" * 1000)
    (folder / "blobs/acme/scratch").mkdir()
    (folder / "blobs/acme/scratch/half").write_bytes(b"half")
    (folder / "pushed/passing").mkdir(parents=True)
    (folder / "pushed/passing/records").write_bytes(b"[1,{}]\n")
    (folder / "admin-key").write_text("aim_x\n")
    (folder / "admin-key").chmod(0o600)
    (folder / "doors.json").write_text("{}")
    (folder / "link").symlink_to("/etc/passwd")
    for name in ("data.db", "bus.db"):
        with closing(sqlite3.connect(folder / name)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("CREATE TABLE t (n INTEGER)")
            database.execute("INSERT INTO t VALUES (1)")
            database.commit()
    (folder / "data.db.lock").write_text("")
    return folder


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT count(*) FROM t").fetchone()[0])


def test_what_was_written_comes_back_and_what_is_passing_does_not(home: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    made = backup.write(home, tmp_path / "all.aimass", lambda now, whole: calls.append((now, whole)))
    back = backup.read(tmp_path / "all.aimass", tmp_path / "back")

    assert (back.files, back.digest) == (made.files, made.digest)
    found = sorted(
        str(path.relative_to(tmp_path / "back")) for path in (tmp_path / "back").rglob("*") if path.is_file()
    )
    assert found == ["admin-key", "blobs/acme/sha256/ab/abcd", "bus.db", "data.db"]
    assert (tmp_path / "back/blobs/acme/sha256/ab/abcd").read_bytes() == b"bytes" * 1000
    assert rows(tmp_path / "back/data.db") == 1
    assert calls
    for path in (tmp_path / "all.aimass", tmp_path / "back/admin-key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_blob_that_is_sealed_under_way_is_in_the_archive_to_its_end_with_its_key(home: Path, tmp_path: Path) -> None:
    blob, sealed = home / "blobs/acme/sha256/ab/abcd", b"sealed" * 1000

    def seal(now: int, whole: int) -> None:
        """What a service does between the moment of the snapshot and the reading of the blob."""
        (tmp_path / "sealed").write_bytes(sealed)
        (tmp_path / "sealed").rename(blob)
        (home / "keys/tenants/acme").mkdir(parents=True, exist_ok=True)
        (home / "keys/tenants/acme/1").write_bytes(b"wrapped")

    backup.write(home, tmp_path / "all.aimass", seal)
    backup.read(tmp_path / "all.aimass", tmp_path / "back")

    assert (tmp_path / "back/blobs/acme/sha256/ab/abcd").read_bytes() == sealed
    assert (tmp_path / "back/keys/tenants/acme/1").read_bytes() == b"wrapped"


def test_uploads_that_end_and_keys_that_are_destroyed_under_way_break_no_backup(home: Path, tmp_path: Path) -> None:
    upload, keys = home / "blobs/acme/uploads/0190", home / "keys/tenants/acme"
    for path in (upload, keys / "1"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"bytes")

    def end(now: int, whole: int) -> None:
        """What services do between the moment of the snapshot and the reading of the files."""
        upload.unlink(missing_ok=True)
        (keys / "0").write_bytes(b"")
        (keys / "1").unlink(missing_ok=True)

    backup.write(home, tmp_path / "all.aimass", end)
    backup.read(tmp_path / "all.aimass", tmp_path / "back")

    assert [path.name for path in (tmp_path / "back/keys/tenants/acme").iterdir()] == ["0"]
    assert not (tmp_path / "back/blobs/acme/uploads/0190").exists()


def test_what_is_dropped_of_a_tenant_whose_keys_are_destroyed_breaks_no_backup(home: Path, tmp_path: Path) -> None:
    (home / "blobs/umbra/sha256/cd").mkdir(parents=True)
    (home / "blobs/umbra/sha256/cd/cdef").write_bytes(b"somebody else's")

    def drop(now: int, whole: int) -> None:
        (home / "keys/tenants/acme").mkdir(parents=True, exist_ok=True)
        (home / "keys/tenants/acme/0").write_bytes(b"")
        shutil.rmtree(home / "blobs/acme", ignore_errors=True)

    backup.write(home, tmp_path / "all.aimass", drop)
    backup.read(tmp_path / "all.aimass", tmp_path / "back")

    assert (tmp_path / "back/keys/tenants/acme/0").is_file()
    assert [path.name for path in (tmp_path / "back/blobs").rglob("*") if path.is_file()] == ["cdef"]


def test_a_process_that_ends_under_way_and_takes_its_public_key_along_breaks_no_backup(
    home: Path, tmp_path: Path
) -> None:
    (home / "keys").mkdir()
    (home / "keys/0190.pub").write_bytes(b"of a process")

    backup.write(home, tmp_path / "all.aimass", lambda now, whole: (home / "keys/0190.pub").unlink(missing_ok=True))
    backup.read(tmp_path / "all.aimass", tmp_path / "back")

    assert not (tmp_path / "back/keys/0190.pub").exists()


def test_what_is_written_aside_is_not_taken(home: Path, tmp_path: Path) -> None:
    for name in ("logs-store/records/000.new", "logs-store/forgotten.new", "keys/tenants/acme/.0190"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(b"half")
    (home / "import").mkdir()
    (home / "import/rows.new").write_bytes(b"somebody's")

    backup.write(home, tmp_path / "all.aimass")
    backup.read(tmp_path / "all.aimass", tmp_path / "back")

    left = [path.name for path in (tmp_path / "back").rglob("*") if path.is_file() and path.read_bytes() == b"half"]
    assert left == []
    assert (tmp_path / "back/import/rows.new").is_file()


def test_the_note_of_who_is_forgotten_is_whole_when_it_becomes_longer_under_way(home: Path, tmp_path: Path) -> None:
    note = home / "logs-store/forgotten"
    note.parent.mkdir()
    note.write_bytes(b'["acme"]')

    def forget(now: int, whole: int) -> None:
        (home / "forgotten.new").write_bytes(b'["acme", "umbra"]')
        (home / "forgotten.new").rename(note)

    backup.write(home, tmp_path / "all.aimass", forget)
    backup.read(tmp_path / "all.aimass", tmp_path / "back")

    assert (tmp_path / "back/logs-store/forgotten").read_bytes() == b'["acme", "umbra"]'


def test_a_file_that_goes_away_while_the_moment_is_taken_was_not_there(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = snapshot._names

    def names(folder: Path) -> list[str]:
        """Something goes away as soon as it was seen."""
        return [*named(folder), "passing"]

    monkeypatch.setattr(snapshot, "_names", names)
    backup.write(home, tmp_path / "all.aimass")
    backup.read(tmp_path / "all.aimass", tmp_path / "back")

    assert (tmp_path / "back/blobs/acme/sha256/ab/abcd").is_file()


def test_a_blob_that_goes_away_under_way_breaks_a_backup_by_its_name(home: Path, tmp_path: Path) -> None:
    blob = home / "blobs/acme/sha256/ab/abcd"

    with pytest.raises(Failure, match="blobs/acme/sha256/ab/abcd was deleted while it was read"):
        backup.write(home, tmp_path / "all.aimass", lambda now, whole: blob.unlink(missing_ok=True))

    assert not (tmp_path / "all.aimass").exists()


def test_two_databases_are_of_one_moment_while_somebody_writes(home: Path, tmp_path: Path) -> None:
    """A row goes to data.db first and to bus.db second: an archive never has the second without the first."""
    stop = threading.Event()

    def work() -> None:
        with (
            closing(sqlite3.connect(home / "data.db", timeout=10)) as first,
            closing(sqlite3.connect(home / "bus.db", timeout=10)) as second,
        ):
            while not stop.is_set():
                for database in (first, second):
                    database.execute("INSERT INTO t VALUES (2)")
                    database.commit()
                stop.wait(0.0005)

    writer = threading.Thread(target=work)
    writer.start()
    try:
        for number in range(5):
            backup.write(home, tmp_path / f"{number}.aimass")
    finally:
        stop.set()
        writer.join()
    for number in range(5):
        backup.read(tmp_path / f"{number}.aimass", tmp_path / f"{number}")
        assert rows(tmp_path / f"{number}/data.db") - rows(tmp_path / f"{number}/bus.db") in (0, 1)


def test_a_log_that_grows_is_kept_as_it_was(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aimass.backup import writing

    segment = home / "segment.log"
    segment.write_bytes(b"one")
    copied = writing._database

    def grow(*given: Any) -> int:
        with segment.open("ab") as file:
            file.write(b"two")
        return copied(*given)

    monkeypatch.setattr(writing, "_database", grow)
    backup.write(home, tmp_path / "all.aimass")
    backup.read(tmp_path / "all.aimass", tmp_path / "back")
    assert (tmp_path / "back/segment.log").read_bytes() == b"one"


def test_neither_writes_over_what_is_there(home: Path, tmp_path: Path) -> None:
    backup.write(home, tmp_path / "all.aimass")
    with pytest.raises(Failure, match="exists already"):
        backup.write(home, tmp_path / "all.aimass")
    with pytest.raises(Failure, match="a restore overwrites nothing"):
        backup.read(tmp_path / "all.aimass", home)
    with pytest.raises(Failure, match="no installation"):
        backup.write(tmp_path / "nowhere", tmp_path / "other.aimass")
    assert not (tmp_path / "other.aimass").exists()


def test_a_flipped_bit_or_a_cut_end_is_found_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    whole = tmp_path / "all.aimass"
    backup.write(home, whole)
    content = bytearray(whole.read_bytes())
    at = content.index(b"bytesbytes")
    content[at] ^= 1
    for number, broken in enumerate((bytes(content), whole.read_bytes()[: at + 100], b"no tar", b"")):
        (tmp_path / "broken").write_bytes(broken)
        with pytest.raises(Failure) as caught:
            backup.read(tmp_path / "broken", tmp_path / f"back{number}")
        assert caught.value.code in ("digest_mismatch", "invalid_value")
        assert not (tmp_path / f"back{number}").exists()
    assert not [path for path in tmp_path.iterdir() if "restore" in path.name]


def test_the_commands_say_what_they_did(home: Path, tmp_path: Path) -> None:
    file = str(tmp_path / "all.aimass")
    runner = CliRunner()
    wrote = runner.invoke(build(), ["backup", file, "--home", str(home)])
    read = runner.invoke(build(), ["restore", file, "--home", str(tmp_path / "back")])
    assert "4 files" in wrote.stdout
    assert "all digests match" in read.stdout


def test_an_archive_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    for file in (tmp_path / "none", tmp_path):
        with pytest.raises(Failure, match="there is no archive") as caught:
            backup.read(file, tmp_path / "back")
        assert caught.value.code == "not_found"
    assert not (tmp_path / "back").exists()


def test_an_empty_folder_takes_a_restore(home: Path, tmp_path: Path) -> None:
    backup.write(home, tmp_path / "all.aimass")
    (tmp_path / "back").mkdir()

    assert backup.read(tmp_path / "all.aimass", tmp_path / "back").files == 4


def test_a_file_in_the_way_is_not_written_over(home: Path, tmp_path: Path) -> None:
    backup.write(home, tmp_path / "all.aimass")
    (tmp_path / "back").write_text("mine")

    with pytest.raises(Failure, match="is not empty"):
        backup.read(tmp_path / "all.aimass", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "mine"


def test_the_same_moment_makes_the_same_list_twice(home: Path, tmp_path: Path) -> None:
    """The digest is that of the list: who has it can tell whether an archive is the one that was made."""
    (home / "data.db").unlink()
    (home / "bus.db").unlink()
    for tail in ("-wal", "-shm"):
        for name in ("data.db", "bus.db"):
            (home / f"{name}{tail}").unlink(missing_ok=True)
    first, second = (backup.write(home, tmp_path / f"{n}.aimass") for n in range(2))

    assert first.digest == second.digest
    (home / "admin-key").write_text("aim_y\n")
    assert backup.write(home, tmp_path / "2.aimass").digest != first.digest


def test_a_database_that_stays_locked_ends_it_with_its_name(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aimass.backup import snapshot

    monkeypatch.setattr(snapshot, "_WAIT", 0.05)
    with closing(sqlite3.connect(home / "data.db", isolation_level=None)) as holding:
        holding.execute("BEGIN IMMEDIATE")
        with pytest.raises(Failure, match=r"data\.db cannot be read") as caught:
            backup.write(home, tmp_path / "all.aimass")
    assert caught.value.code == "unavailable"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]
    backup.write(home, tmp_path / "all.aimass")


def test_what_is_no_database_is_said_so(home: Path, tmp_path: Path) -> None:
    (home / "odd.db").write_bytes(b"no database" * 100)

    with pytest.raises(Failure, match=r"odd\.db cannot be read"):
        backup.write(home, tmp_path / "all.aimass")
    assert not (tmp_path / "all.aimass").exists()


def test_an_archive_on_a_full_disk_is_said_with_its_name(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "Monday.aimass"
    (tmp_path / "Monday.aimass.part").symlink_to("/dev/full")

    with pytest.raises(Failure) as caught:
        backup.write(home, file)
    assert (caught.value.code, caught.value.detail) == ("storage_full", f"{file}: no space left on device")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]


def test_an_archive_in_a_folder_that_is_not_there_is_said_with_its_name(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "Backups" / "all.aimass"

    with pytest.raises(Failure) as caught:
        backup.write(home, file)
    assert (caught.value.code, caught.value.detail) == ("unavailable", f"{file}: no such file or directory")


def test_databases_are_copied_beside_the_archive(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere there may be room for less: a small disk in memory."""
    monkeypatch.setattr("tempfile.tempdir", "/dev/full")
    backup.write(home, tmp_path / "all.aimass")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.aimass", "home"]


def test_a_database_for_whose_copy_there_is_no_room_ends_it_with_its_name(home: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(home / "bus.db")) as database:
        database.execute("INSERT INTO t VALUES (zeroblob(200000))")
        database.commit()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(Failure, match=rf"bus\.db cannot be copied to {tmp_path}: disk I/O error"):
            backup.write(home, tmp_path / "all.aimass")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]


def test_a_folder_that_cannot_be_made_is_said_with_its_name(home: Path, tmp_path: Path) -> None:
    backup.write(home, tmp_path / "all.aimass")
    (tmp_path / "File").write_text("in the way")

    with pytest.raises(Failure) as caught:
        backup.read(tmp_path / "all.aimass", tmp_path / "File" / "Home")
    assert caught.value.code == "unavailable"
    assert str(tmp_path / "File" / "Home") in caught.value.detail


def test_services_go_on_writing_after_a_backup(home: Path, tmp_path: Path) -> None:
    backup.write(home, tmp_path / "all.aimass")
    with closing(sqlite3.connect(home / "data.db", timeout=0.1)) as database:
        database.execute("INSERT INTO t VALUES (2)")
        database.commit()
    backup.read(tmp_path / "all.aimass", tmp_path / "back")

    assert (rows(home / "data.db"), rows(tmp_path / "back/data.db")) == (2, 1)


def test_progress_ends_with_the_whole(home: Path, tmp_path: Path) -> None:
    wrote, read = list[int](), list[int]()
    made = backup.write(home, tmp_path / "all.aimass", lambda now, _: wrote.append(now))
    backup.read(tmp_path / "all.aimass", tmp_path / "back", lambda now, _: read.append(now))

    assert wrote == sorted(wrote)
    assert wrote[-1] == read[-1] == made.bytes


def test_with_the_settings_of_a_stack_it_is_the_stack_that_is_meant(
    home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file, code = str(tmp_path / "all.aimass"), f"{ROOT}:{ROOT / 'sdk'}"
    env = {"AIMASS_BLOBS_URL": "s3://bucket?endpoint=http://127.0.0.1:9", "PYTHONPATH": code}
    done = CliRunner().invoke(build(), ["backup", file], env=env)
    named = CliRunner().invoke(build(), ["backup", file, "--home", str(home)], env=env)

    assert done.exit_code == 2
    assert "AIMASS_BUS_URL: must be kafka://" in capfd.readouterr().err
    assert named.exit_code == 0
