"""Archives that no backup wrote: none of them leaves anything behind."""

import io
import stat
import tarfile
from pathlib import Path
from typing import Any

import orjson
import pytest

from aimass import Failure, backup


def hostile(path: Path, *members: tuple[str, bytes, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = (
                kind,
                len(content),
                "/etc/passwd" if kind != tarfile.REGTYPE else "",
            )
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../evil", tarfile.REGTYPE),
        ("/evil", tarfile.REGTYPE),
        ("a/../../evil", tarfile.REGTYPE),
        ("a//b", tarfile.REGTYPE),
        ("a\\b", tarfile.REGTYPE),
        ("link", tarfile.SYMTYPE),
        ("hard", tarfile.LNKTYPE),
        ("fifo", tarfile.FIFOTYPE),
        ("folder", tarfile.DIRTYPE),
    ],
)
def test_names_and_kinds_that_no_backup_writes_are_refused(tmp_path: Path, name: str, kind: bytes) -> None:
    with pytest.raises(Failure, match="no backup writes"):
        backup.read(hostile(tmp_path / "x", (name, kind, b"")), tmp_path / "back")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_list_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    regular = tarfile.REGTYPE
    empty = orjson.dumps({"format": 1, "files": []})
    newer = orjson.dumps({"format": 2, "files": []})
    cases = {
        "twice": (("a", regular, b"1"), ("a", regular, b"2")),
        "does not list": (("a", regular, b"1"), ("manifest.json", regular, empty)),
        "data after its end": (("manifest.json", regular, empty), ("a", regular, b"1")),
        "format 2": (("manifest.json", regular, newer),),
        "truncated": (("a", regular, b"1"),),
    }
    for number, (said, members) in enumerate(cases.items()):
        with pytest.raises(Failure, match=said):
            backup.read(hostile(tmp_path / f"{number}", *members), tmp_path / "back")


def entry(**other: Any) -> dict[str, Any]:
    digest = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"  # of b"1"
    return {"path": "a", "size": 1, "sha256": digest, "mode": 0o600} | other


@pytest.mark.parametrize(
    "listed",
    [
        {"format": 1},
        {"format": 1, "files": None},
        {"format": 1, "files": 7},
        {"format": 1, "files": ["a"]},
        {"format": 1, "files": [{"path": "a"}]},
        {"format": 1, "files": [{key: value for key, value in entry().items() if key != "mode"}]},
        {"format": 1, "files": [entry(mode="rw")]},
        {"format": 1, "files": [entry(path=["a"])]},
        {"files": [entry()]},
        [entry()],
        None,
        "x",
    ],
    ids=str,
)
def test_a_list_of_another_shape_is_no_list(tmp_path: Path, listed: Any) -> None:
    members = (("a", tarfile.REGTYPE, b"1"), ("manifest.json", tarfile.REGTYPE, orjson.dumps(listed)))

    with pytest.raises(Failure, match="has no manifest"):
        backup.read(hostile(tmp_path / "x", *members), tmp_path / "back")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("other", [{"size": 2}, {"sha256": "0" * 64}, {"path": "b"}, {"size": "1"}], ids=str)
def test_a_file_that_is_not_as_listed_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    listed = orjson.dumps({"format": 1, "files": [entry(**other)]})
    members = (("a", tarfile.REGTYPE, b"1"), ("manifest.json", tarfile.REGTYPE, listed))

    with pytest.raises(Failure, match="has changed since the archive was written"):
        backup.read(hostile(tmp_path / "x", *members), tmp_path / "back")


@pytest.mark.parametrize("mode", [0o777, 0o4755, 0o6777, 0, 0o644])
def test_what_comes_back_is_its_owners_only_whatever_the_list_says(tmp_path: Path, mode: int) -> None:
    listed = orjson.dumps({"format": 1, "files": [entry(mode=mode)]})
    members = (("a", tarfile.REGTYPE, b"1"), ("manifest.json", tarfile.REGTYPE, listed))
    backup.read(hostile(tmp_path / "x", *members), tmp_path / "back")

    assert stat.S_IMODE((tmp_path / "back/a").stat().st_mode) & 0o7077 == 0
    assert (tmp_path / "back/a").read_bytes() == b"1"
