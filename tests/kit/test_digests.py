import os
from pathlib import Path

import pytest

from services.kit.digests import Seen, digest_of, hash_of, name_of
from services.kit.errors import Code, Failure

ABC = digest_of(b"abc")


def test_a_digest_is_the_name_of_a_blob() -> None:
    assert name_of("acme", ABC) == f"acme/sha256/{ABC[7:9]}/{ABC[7:]}"


@pytest.mark.parametrize("text", ["", "sha256:", ABC[7:], ABC.upper(), f"{ABC}0", f"{ABC}\n", "sha256:" + "../" * 21])
def test_what_is_no_digest_names_nothing(text: str) -> None:
    with pytest.raises(Failure) as caught:
        name_of("acme", text)
    assert caught.value.code is Code.INVALID_VALUE


def test_a_file_is_right_when_its_bytes_are_those_of_its_digest(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")

    assert hash_of(tmp_path / "x") == ABC
    assert Seen().right(tmp_path / "x", ABC)
    assert not Seen().right(tmp_path / "x", digest_of(b"abd"))


def test_a_file_that_was_right_is_hashed_again_when_it_was_written_to(tmp_path: Path) -> None:
    seen, file = Seen(), tmp_path / "x"
    file.write_bytes(b"abc")
    assert seen.right(file, ABC)
    file.write_bytes(b"abd")

    assert not seen.right(file, ABC)


def test_a_file_that_was_right_is_not_read_again(tmp_path: Path) -> None:
    """What nobody can tell by looking at the file's times is believed: reading gigabytes for each use is worse."""
    seen, file = Seen(), tmp_path / "x"
    file.write_bytes(b"abc")
    assert seen.right(file, ABC)
    times = file.stat()
    file.write_bytes(b"abd")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert seen.right(file, ABC)
    assert not Seen().right(file, ABC)
