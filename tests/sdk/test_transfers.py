import hashlib
from pathlib import Path

import pytest

from aimass import Client, Failure, transfers
from tests.sdk.conftest import Door

ABC = f"sha256:{hashlib.sha256(b'abc').hexdigest()}"


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "CHUNK", 2)


def status(size: int) -> dict[str, str]:
    return {"upload": "u", "committed_size": str(size)}


def test_a_file_goes_up_in_chunks_and_is_committed_by_its_digest(door: Door, client: Client, tmp_path: Path) -> None:
    door.say(status(0)).say(status(2)).say(status(3)).say({**status(3), "digest": ABC})
    path, told = tmp_path / "a.csv", list[tuple[int, int]]()
    path.write_bytes(b"abc")

    assert client.upload(path, progress=lambda now, whole: told.append((now, whole))).digest == ABC
    assert [(a.method, a.query.get("offset"), a.body) for a in door.asked[1:3]] == [
        ("PUT", ["0"], b"ab"),
        ("PUT", ["2"], b"c"),
    ]
    assert door.asked[3].json == {"digest": ABC, "upload": "u"} or door.asked[3].json == {"digest": ABC}
    assert told == [(2, 3), (3, 3)]


def test_a_chunk_whose_answer_was_lost_is_not_sent_again(door: Door, client: Client) -> None:
    door.say(status(0)).break_off().refuse(416, "wrong_offset", committed_size=2).say(status(2)).say(status(3)).say({})

    client.upload(b"abc", to="artifacts")
    assert [a.body for a in door.asked if a.method == "PUT"] == [b"ab", b"ab", b"c"]
    assert door.asked[0].path == "/v1/artifacts/uploads"


def test_an_upload_of_before_goes_on_where_it_ended(door: Door, client: Client) -> None:
    door.say(status(2)).say(status(3)).say({})
    client.upload(b"abc", upload="u")
    assert [a.body for a in door.asked if a.method == "PUT"] == [b"c"]


def test_files_go_to_sources_or_artifacts(client: Client) -> None:
    with pytest.raises(Failure, match="not to models"):
        client.upload(b"abc", to="models")


def test_a_download_is_checked_by_its_digest(door: Door, client: Client) -> None:
    door.say(b"abc").say(b"abd")
    assert client.download(ABC) == b"abc"
    with pytest.raises(Failure, match="digest_mismatch"):
        client.download(ABC)


def test_a_broken_download_goes_on_in_its_file(door: Door, client: Client, tmp_path: Path) -> None:
    door.break_off().say(b"bc")
    path = tmp_path / "model.onnx"
    (tmp_path / "model.onnx.part").write_bytes(b"a")

    assert client.download(ABC, to=path) == path
    assert path.read_bytes() == b"abc"
    assert door.asked[1].query["offset"] == ["1"]


def test_a_file_with_other_bytes_is_thrown_away(door: Door, client: Client, tmp_path: Path) -> None:
    door.say(b"abd")
    with pytest.raises(Failure):
        client.download(ABC, to=tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_download_needs_to_know_what(client: Client) -> None:
    with pytest.raises(TypeError, match="needs digest, or run and artifact"):
        client.download(run="r")


def test_what_is_not_there_is_not_tried_again(door: Door, client: Client) -> None:
    door.refuse(404, "not_found")
    with pytest.raises(Failure, match="not_found"):
        client.download(run="r", artifact="card.md")
    assert len(door.asked) == 1
