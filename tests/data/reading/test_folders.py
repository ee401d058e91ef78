import os
from pathlib import Path

import pytest

from services.data.reading import folders
from services.data.reading.folders import Place
from services.kit.errors import Code, Failure

ROOT = Path("/data/acme")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a.csv", "b.csv", ".hidden.csv", "2013/jan.csv", "2013/feb.csv", "2014/jan.csv", "notes.txt"):
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "root"


def names(root: Path, pattern: str) -> list[str]:
    return ["/".join(steps) for steps in folders.matches(root, tuple(pattern.split("/")))]


def read(root: Path, *steps: str) -> str:
    with os.fdopen(folders.open_file(root, steps)) as file:
        return file.read()


def test_a_tenant_has_its_import_folder_unless_the_operator_says_otherwise() -> None:
    assert folders.roots("", Path("/home"), "acme") == (Path("/home/import/acme"),)
    said = folders.roots("/in/{tenant}:/shared", Path("/home"), "acme")
    assert said == (Path("/in/acme"), Path("/shared"))


@pytest.mark.parametrize("tenant", ["", "..", "a/b", "A", "a\n"])
def test_a_tenant_whose_name_is_no_name_has_no_folder(tenant: str) -> None:
    with pytest.raises(Failure):
        folders.roots("", Path("/home"), tenant)


@pytest.mark.parametrize(
    ("text", "steps"), [("a.csv", ("a.csv",)), ("x/*.csv", ("x", "*.csv")), ("/data/acme/x/a", ("x", "a"))]
)
def test_a_path_lies_below_a_root(text: str, steps: tuple[str, ...]) -> None:
    assert folders.place([ROOT, Path("/other")], text) == Place(ROOT, steps)


def test_a_file_whose_name_is_no_text_is_said_and_not_passed_over(root: Path) -> None:
    (root / os.fsdecode(b"caf\xe9.csv")).write_text("x")
    assert names(root, "*.txt") == ["notes.txt"]
    with pytest.raises(Failure, match=r"the pattern names 'caf.*', which is not UTF-8: rename it"):
        names(root, "*.csv")


def test_a_path_below_a_second_root_is_found() -> None:
    assert folders.place([ROOT, Path("/other")], "/other/a") == Place(Path("/other"), ("a",))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "../b",
        "a/../b",
        "a/./b",
        "a//b",
        "a/..",
        "/data/acme/../b",
        "..\\b",
        "a\\..\\b",
        "a\0b",
        "/",
        "//etc/passwd/..",
    ],
)
def test_a_path_trick_is_refused(text: str) -> None:
    with pytest.raises(Failure) as caught:
        folders.place([ROOT], text)
    assert caught.value.code is Code.INVALID_VALUE


@pytest.mark.parametrize("text", ["/etc/passwd", "/data/acme2/a", "/data/acme", "/data", "//etc/passwd"])
def test_a_path_outside_of_every_root_is_denied(text: str) -> None:
    with pytest.raises(Failure) as caught:
        folders.place([ROOT], text)
    assert caught.value.code is Code.EGRESS_DENIED


@pytest.mark.parametrize(
    "text", ["%2e%2e/secret", "..%2fsecret", "\uff0e\uff0e/secret", "~/secret", "$HOME/secret", "file:secret"]
)
def test_nothing_is_decoded_or_expanded(root: Path, text: str) -> None:
    (root.parent / "secret").write_text("secret")
    with pytest.raises(Failure, match="there is no"):
        folders.open_file(root, folders.place([root], text).steps)


def test_a_file_is_opened_below_its_root(root: Path) -> None:
    assert read(root, "2013", "jan.csv") == "2013/jan.csv"


def test_links_are_not_followed_wherever_they_are(root: Path) -> None:
    (root.parent / "secret").mkdir()
    (root.parent / "secret" / "a.csv").write_text("secret")
    (root / "link.csv").symlink_to(root.parent / "secret" / "a.csv")
    (root / "folder").symlink_to(root.parent / "secret")
    (root / "near.csv").symlink_to("a.csv")

    for steps in (("link.csv",), ("folder", "a.csv"), ("near.csv",)):
        with pytest.raises(Failure, match="links are not followed"):
            folders.open_file(root, steps)
    assert names(root, "*.csv") == ["a.csv", "b.csv"]
    assert names(root, "*/a.csv") == []


def test_what_is_no_file_is_refused_without_waiting(root: Path) -> None:
    os.mkfifo(root / "pipe.csv")

    for name in ("pipe.csv", "2013"):
        with pytest.raises(Failure, match="is not a file"):
            folders.open_file(root, (name,))
    assert "pipe.csv" not in names(root, "*.csv")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.csv", ["a.csv", "b.csv"]),
        ("[ab].csv", ["a.csv", "b.csv"]),
        ("?.csv", ["a.csv", "b.csv"]),
        ("2013/*.csv", ["2013/feb.csv", "2013/jan.csv"]),
        ("*/jan.csv", ["2013/jan.csv", "2014/jan.csv"]),
        ("a.csv", ["a.csv"]),
        ("*.none", []),
        ("none/*", []),
        ("a.csv/*", []),
    ],
)
def test_a_pattern_names_files_in_order(root: Path, pattern: str, found: list[str]) -> None:
    assert names(root, pattern) == found


@pytest.mark.parametrize("pattern", ["**/a.csv", "a**", "*" + "?" * 10])
def test_a_pattern_that_would_search_is_refused(root: Path, pattern: str) -> None:
    with pytest.raises(Failure) as caught:
        names(root, pattern)
    assert caught.value.code is Code.INVALID_VALUE


def test_a_pattern_names_at_most_so_many_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_FILES", 1)
    with pytest.raises(Failure, match="names more than 1 files"):
        names(root, "*.csv")
    monkeypatch.setattr(folders, "_SEEN", 3)
    with pytest.raises(Failure, match="looks at more than 3 files"):
        names(root, "*.csv")


def test_no_descriptor_is_left_open(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    names(root, "*/*.csv")
    for steps in (("none",), ("2013", "none"), ("2013",), ("a.csv", "b")):
        with pytest.raises(Failure):
            folders.open_file(root, steps)
    assert len(os.listdir("/proc/self/fd")) == before


def test_who_has_no_import_folder_is_told_where_it_would_be(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"import/<tenant> in the home folder, or what AIMASS_DATA_FILE_ROOTS names$"):
        folders.open_file(tmp_path / "import" / "acme", ("flights.db",))
