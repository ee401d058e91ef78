"""Where to go on in files that grew, moved, were copied or replaced."""

import hashlib
import random
from dataclasses import dataclass, replace

import pytest

from services.data.reading.positions import HEAD, FileState, FoundFile, Start, remembered, starts

LONG = b"".join(b"line %06d\n" % i for i in range(1000))


@dataclass
class Disk:
    """Files by name: inode and bytes."""

    files: dict[str, tuple[str, bytes]]

    def found(self) -> list[FoundFile]:
        return [
            FoundFile(path, inode, len(data), lambda size, data=data: _digest(data[:size]))  # type: ignore[misc]
            for path, (inode, data) in sorted(self.files.items())
        ]

    def read(self) -> list[FileState]:
        """The states after everything was read."""
        return [state(path, inode, data) for path, (inode, data) in sorted(self.files.items()) if data]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def state(path: str, inode: str, data: bytes) -> FileState:
    size = min(len(data), HEAD)
    return FileState(path, inode, len(data), data.count(b"\n"), _digest(data[:size]), size)


def test_a_new_file_is_read_from_its_start() -> None:
    assert starts(Disk({"a": ("1", b"x\n")}).found(), []) == (Start("a"),)


def test_a_file_that_grew_goes_on() -> None:
    before = Disk({"a": ("1", b"x\n")}).read()
    assert starts(Disk({"a": ("1", b"x\ny\n")}).found(), before) == (Start("a", 2, 1),)


@pytest.mark.parametrize("data", [b"z\nz\n", b"x"])
def test_a_file_that_begins_otherwise_or_is_shorter_was_replaced(data: bytes) -> None:
    before = Disk({"a": ("1", b"x\n")}).read()
    assert starts(Disk({"a": ("1", data)}).found(), before) == (Start("a", replaced=True),)


def test_a_renamed_file_goes_on_under_its_new_name() -> None:
    before = Disk({"a": ("1", b"x\n")}).read()
    after = Disk({"a": ("2", b"new\n"), "a.1": ("1", b"x\ny\n")})
    assert starts(after.found(), before) == (Start("a", replaced=True), Start("a.1", 2, 1, ended=True))


def test_a_chain_of_renamed_files_is_followed() -> None:
    before = Disk({"a": ("1", b"one\n"), "a.1": ("0", b"zero\n")}).read()
    after = Disk({"a": ("2", b"two\n"), "a.1": ("1", b"one\n"), "a.2": ("0", b"zero\n")})
    assert [(s.path, s.offset) for s in starts(after.found(), before)] == [("a", 0), ("a.1", 4), ("a.2", 5)]


def test_a_restored_file_is_known_by_name_and_beginning() -> None:
    before = Disk({"a": ("1", b"x\n")}).read()
    assert starts(Disk({"a": ("9", b"x\ny\n")}).found(), before) == (Start("a", 2, 1),)


def test_a_copy_made_before_the_file_was_emptied_is_known_by_a_long_beginning() -> None:
    before = Disk({"a": ("1", LONG)}).read()
    after = Disk({"a": ("1", b""), "a.1": ("2", LONG + b"more\n")})
    assert starts(after.found(), before) == (Start("a", replaced=True), Start("a.1", len(LONG), 1000))


def test_two_files_that_begin_alike_are_two() -> None:
    before = Disk({"a": ("1", b"head\n1\n")}).read()
    after = Disk({"a": ("1", b"head\n1\n"), "b": ("2", b"head\n1\n")})
    assert starts(after.found(), before) == (Start("a", 7, 2), Start("b"))


def test_an_inode_that_is_used_again_is_another_file() -> None:
    before = Disk({"a": ("1", b"x\n")}).read()
    assert starts(Disk({"b": ("1", b"other\n")}).found(), before) == (Start("b"),)


def test_files_that_are_not_there_are_remembered_by_what_they_were() -> None:
    before = Disk({"a": ("1", b"x\n"), "b": ("2", b"y\n")}).read()
    kept = remembered([replace(before[0], path="c")], before)
    assert [s.path for s in kept] == ["c", "b"]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_logs_do_each_line_is_read_once(seed: int) -> None:
    chance, disk, states, serial = random.Random(seed), Disk({}), tuple[FileState, ...](), 0
    written, seen = list[bytes](), list[bytes]()
    disk.files["log"] = ("0", b"")
    for step in range(1, 40):
        action = chance.choice(["append", "append", "rotate", "read", "other"])
        if action == "rotate" and disk.files["log"][1]:
            disk.files[f"log.{step}"] = disk.files["log"]
            disk.files["log"] = (str(step), b"")
        name = f"other{chance.randrange(3)}" if action == "other" else "log"
        if action in ("append", "other"):
            serial += 1
            inode, data = disk.files.get(name, (f"i{step}", b""))
            line = b"%d of %d" % (serial, seed)
            written.append(line)
            disk.files[name] = (inode, data + line + b"\n")
        if action == "read" or step == 39:
            for start in starts(disk.found(), states):
                seen += disk.files[start.path][1][start.offset :].split(b"\n")[:-1]
            states = remembered(disk.read(), states)
    assert sorted(seen) == sorted(written)
