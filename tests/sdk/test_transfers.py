import hashlib
import io
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass import AsyncClient, Client, Failure, transfers
from aimass.exchange import Answer, Sleep, Unreachable
from tests.sdk.conftest import Door

ABC = f"sha256:{hashlib.sha256(b'abc').hexdigest()}"


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "CHUNK", 2)


def status(size: int) -> dict[str, str]:
    return {"upload": "u", "committed_size": str(size)}


def test_a_file_goes_up_in_chunks_and_is_committed_by_its_digest(door: Door, client: Client, tmp_path: Path) -> None:
    door.say(status(0)).say(status(2)).say(status(3)).say({**status(3), "digest": ABC})
    path, progress = tmp_path / "a.csv", list[tuple[int, int]]()
    path.write_bytes(b"abc")

    assert client.upload(path, progress=lambda now, whole: progress.append((now, whole))).digest == ABC
    assert [(a.method, a.query.get("offset"), a.body) for a in door.asked[1:3]] == [
        ("PUT", ["0"], b"ab"),
        ("PUT", ["2"], b"c"),
    ]
    assert door.asked[3].json == {"digest": ABC, "upload": "u"} or door.asked[3].json == {"digest": ABC}
    assert progress == [(2, 3), (3, 3)]


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
    with pytest.raises(TypeError, match="needs digest, digest and data_set, or run and artifact"):
        client.download(run="r")


def test_what_is_not_there_is_not_tried_again(door: Door, client: Client) -> None:
    door.refuse(404, "not_found")
    with pytest.raises(Failure, match="not_found"):
        client.download(run="r", artifact="card.md")
    assert len(door.asked) == 1


def test_a_file_is_sent_whole_wherever_it_was_read_to(door: Door, client: Client) -> None:
    door.say(status(0)).say(status(2)).say(status(3)).say({"digest": ABC})
    file = io.BytesIO(b"abc")
    file.seek(2)

    client.upload(file)
    assert [a.body for a in door.asked if a.method == "PUT"] == [b"ab", b"c"]
    assert door.asked[-1].json["digest"] == ABC


def test_an_empty_file_is_committed_without_a_chunk(door: Door, client: Client) -> None:
    door.say(status(0)).say({"digest": "d"})

    client.upload(b"")
    assert [a.method for a in door.asked] == ["POST", "POST"]
    assert door.asked[-1].json["digest"] == f"sha256:{hashlib.sha256(b'').hexdigest()}"


def test_a_file_that_became_shorter_is_not_committed(door: Door, client: Client) -> None:
    class Shrinking(io.BytesIO):
        def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
            if offset == 2:
                self.truncate(2)
            return super().seek(offset, whence)

    door.say(status(0)).say(status(2))
    with pytest.raises(Failure, match="became shorter"):
        client.upload(Shrinking(b"abc"))


def test_an_upload_that_is_gone_is_said_so(door: Door, client: Client) -> None:
    door.refuse(404, "not_found", "there is no upload u")
    with pytest.raises(Failure, match="there is no upload u"):
        client.upload(b"abc", upload="u")


def test_a_file_that_is_not_there_asks_nobody(door: Door, client: Client, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        client.upload(tmp_path / "none.csv")
    assert door.asked == []


def test_what_was_left_of_something_longer_is_thrown_away(door: Door, client: Client, tmp_path: Path) -> None:
    door.refuse(416, "wrong_offset", committed_size=3).say(b"abc")
    (tmp_path / "x.part").write_bytes(b"something else")

    assert client.download(ABC, to=tmp_path / "x") == tmp_path / "x"
    assert (tmp_path / "x").read_bytes() == b"abc"
    assert [a.query["offset"] for a in door.asked] == [["14"], ["0"]]


def test_a_server_that_refuses_every_offset_is_not_asked_for_ever(door: Door, client: Client, tmp_path: Path) -> None:
    door.refuse(416, "wrong_offset")
    (tmp_path / "x.part").write_bytes(b"a")

    with pytest.raises(Failure, match="wrong_offset"):
        client.download(ABC, to=tmp_path / "x")
    assert len(door.asked) == 2


def test_without_a_digest_nothing_of_before_is_believed(door: Door, client: Client, tmp_path: Path) -> None:
    door.say(b"card")
    (tmp_path / "card.md.part").write_bytes(b"of another run ")

    client.download(run="r", artifact="card.md", to=tmp_path / "card.md")
    assert (tmp_path / "card.md").read_bytes() == b"card"
    assert door.asked[0].query.get("offset", ["0"]) == ["0"]


async def test_the_other_client_begins_anew_as_well(door: Door, tmp_path: Path) -> None:
    door.refuse(416, "wrong_offset", committed_size=3).say(b"abc")
    (tmp_path / "x.part").write_bytes(b"something else")
    async with AsyncClient(door.url, "aim_key") as client:
        await client.download(ABC, to=tmp_path / "x")

    assert (tmp_path / "x").read_bytes() == b"abc"


def test_a_download_that_never_comes_gives_up_and_keeps_what_there_is(
    door: Door, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aimass.client.time.sleep", lambda seconds: None)
    door.break_off()
    (tmp_path / "x.part").write_bytes(b"ab")

    with pytest.raises(Failure) as caught:
        client.download(ABC, to=tmp_path / "x", tries=3)
    assert caught.value.code == "unavailable"
    assert len(door.asked) == 3
    assert (tmp_path / "x.part").read_bytes() == b"ab"
    assert not (tmp_path / "x").exists()


def test_a_finished_file_takes_the_place_of_an_older_one(door: Door, client: Client, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    door.say(b"abc")

    client.download(ABC, to=str(tmp_path / "x"))
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"abc"


@given(st.binary(max_size=40), st.integers(1, 9), st.integers(0, 3))
def test_any_file_arrives_whole_over_lost_answers(content: bytes, chunk: int, lost: int) -> None:
    """The plan itself against a server that keeps what it gets, and whose first answers get lost."""
    kept, answers_lost = bytearray(), lost
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfers, "CHUNK", chunk)
        plan = transfers.upload(io.BytesIO(content), "sources", None, None)
        step = next(plan)
        try:
            while True:
                if isinstance(step, Sleep):
                    step = plan.send(Answer(0, {}, b""))
                    continue
                if step.method == "PUT":
                    offset, wrong = int(dict(step.query).get("offset", "0")), False
                    if offset == len(kept):
                        kept += step.content or b""
                    else:
                        wrong = True
                    if answers_lost:
                        answers_lost -= 1
                        step = plan.throw(Unreachable("broke"))
                        continue
                    if wrong:
                        problem = {"code": "wrong_offset", "committed_size": len(kept)}
                        step = plan.send(Answer(416, {}, orjson.dumps(problem)))
                        continue
                step = plan.send(Answer(200, {}, orjson.dumps(status(len(kept)))))
        except StopIteration:
            pass
    assert bytes(kept) == content
