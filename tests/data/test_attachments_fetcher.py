"""How files are fetched: bounded in time, room and patience, whatever a server does."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.data.attachments import fetcher as fetcher_module
from services.data.attachments import fetching
from services.data.attachments.domain import Outcome
from services.data.attachments.fetcher import FILES, JOURNAL, Fetcher
from services.data.reading.downloads import Download
from services.kit.errors import Code, Failure
from tests.support.downloads import Files, after, digest, in_halves, said

PHOTO = Download("photo", tries=2)


@pytest.fixture
def web() -> Iterator[Files]:
    with Files() as made:
        yield made


def fetch(folder: Path, web: Files, *paths: str, most: int = 2**20, seconds: float = 60.0) -> dict[str, Outcome]:
    """What becomes of paths in a new process."""
    made = Fetcher(folder, web.host, seconds, most, lambda files: None)
    try:
        found = made.fetch(PHOTO, [web.url(path) for path in paths])
        return {path: found[web.url(path)] for path in paths}
    finally:
        made.close()


def hangs(handler: Any) -> None:
    said(200, b"begun", content_length="100")(handler)
    handler.wfile.flush()
    time.sleep(3)


def drips(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(b"x")
            time.sleep(0.05)
    except OSError:
        pass
    handler.close_connection = True


def test_a_server_that_says_no_more_is_left(tmp_path: Path, web: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_IDLE", 0.2)
    web.files["/hangs"] = hangs
    found = fetch(tmp_path, web, "/hangs")["/hangs"]
    assert (found.state, found.reason) == ("failed", "nothing comes for 0.2 seconds")


def test_a_server_that_goes_on_for_ever_has_the_time_of_a_file(
    tmp_path: Path, web: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_BEGIN", 0.5)
    monkeypatch.setattr(fetching, "_SLOWEST", 2**40)
    web.files["/drips"] = drips
    begin = time.monotonic()
    found = fetch(tmp_path, web, "/drips")["/drips"]
    assert (found.state, found.reason) == ("failed", "it takes too long")
    assert time.monotonic() - begin < 3


def test_a_run_without_time_fetches_nothing(tmp_path: Path, web: Files) -> None:
    found = fetch(tmp_path, web, "/a", seconds=0)["/a"]
    assert (found.state, found.reason, web.asked.total()) == ("failed", "the run has no time left", 0)


def test_files_of_a_run_have_a_most_together(tmp_path: Path, web: Files) -> None:
    web.files |= {f"/{n}": bytes([n]) * 400_000 for n in range(4)}
    found = fetch(tmp_path, web, *web.files, most=2**20)
    states = sorted(outcome.state for outcome in found.values())
    assert states == ["failed", "failed", "kept", "kept"]
    assert "the files of one run have at most 1 MiB" in {outcome.reason for outcome in found.values()}
    # Also with what an attempt before has kept.
    web.files["/5"] = bytes([5]) * 400_000
    assert fetch(tmp_path, web, "/5", most=2**20)["/5"].state == "failed"
    assert sum(path.stat().st_size for path in tmp_path.rglob("*")) < 2**20 + 4096 * 10


def test_what_a_run_has_no_room_for_is_asked_for_once_and_is_no_fault_of_its_server(
    tmp_path: Path, web: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher_module, "_AT_ONCE", 1)
    web.files |= {f"/{n}": bytes([n]) * 600_000 for n in range(9)} | {"/small": b"small"}
    found = fetch(tmp_path, web, *web.files, most=2**20)
    assert [outcome.state for outcome in found.values()] == ["kept", *["failed"] * 8, "kept"]
    assert {outcome.reason for outcome in found.values()} == {"", "the files of one run have at most 1 MiB"}
    assert set(web.asked.values()) == {1}
    web.files |= {f"/more{n}": bytes([n]) * 1_200_000 for n in range(30)}
    found = fetch(tmp_path, web, *(path for path in web.files if "more" in path), most=2**20)
    assert {outcome.state for outcome in found.values()} == {"failed"}
    assert web.asked.total() == 10 + 20, "servers were asked though there was no room"


def test_a_run_whose_time_is_up_says_so_of_all_that_is_left(tmp_path: Path, web: Files) -> None:
    found = fetch(tmp_path, web, *(f"/{n}" for n in range(40)), seconds=0)
    assert {outcome.reason for outcome in found.values()} == {"the run has no time left"}


def test_what_another_try_would_not_change_is_not_waited_for(
    tmp_path: Path, web: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_WAIT", 5.0)
    made, begin = Fetcher(tmp_path, web.host, 60, 2**20, lambda files: None), time.monotonic()
    urls = ["http://10.0.0.1/a", "no url", "https://[::1]/"]
    assert {outcome.state for outcome in made.fetch(PHOTO, urls).values()} == {"refused"}
    made.close()
    assert time.monotonic() - begin < 4


def test_a_server_that_fails_for_many_is_not_asked_for_all(
    tmp_path: Path, web: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_WAIT", 0.01)
    web.files |= {f"/{n}": said(500) for n in range(60)}
    found = fetch(tmp_path, web, *web.files)
    assert {outcome.state for outcome in found.values()} == {"failed"}
    assert "the server failed for others of this run before" in {outcome.reason for outcome in found.values()}
    assert web.asked.total() <= 2 * 9, "asked for more than were on their way"


@pytest.mark.parametrize("host", ["a..example", f"{'a' * 64}.example"])
def test_a_name_that_no_host_can_have_ends_no_run(tmp_path: Path, web: Files, host: str) -> None:
    web.files["/a"] = b"one"
    made, url = Fetcher(tmp_path, web.host, 60, 2**20, lambda files: None), f"https://{host}/a"
    found = made.fetch(PHOTO, [url, web.url("/a")])
    made.close()
    assert (found[url].state, found[url].reason) == ("refused", "it is no URL that can be fetched")
    assert found[web.url("/a")].state == "kept"


def test_a_run_fetches_so_many(tmp_path: Path, web: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher_module, "_URLS", 3)
    monkeypatch.setattr(fetcher_module, "_AT_ONCE", 1)
    web.files |= {f"/{n}": b"data" for n in range(5)}
    found = fetch(tmp_path, web, *web.files)
    assert [outcome.state for outcome in found.values()] == ["kept"] * 3 + ["failed"] * 2


def test_what_came_before_a_kill_is_gone_on_with(tmp_path: Path, web: Files) -> None:
    data = bytes(range(256)) * 400
    web.files["/halves"] = in_halves(data, '"one"')
    once = Download("photo", tries=1)
    made = Fetcher(tmp_path, web.host, 60, 2**20, lambda files: None)
    assert made.fetch(once, [web.url("/halves")])[web.url("/halves")].state == "failed"
    made.close()
    found = fetch(tmp_path, web, "/halves")["/halves"]
    assert (found.state, found.digest) == ("kept", digest(data))
    assert (tmp_path / FILES / found.digest.removeprefix("sha256:")).read_bytes() == data


@pytest.mark.parametrize(
    "second",
    [
        said(206, b"lf", content_range="bytes 0-1/7", content_length="2"),
        said(206, b"lf", content_range="bytes 3-4/9", content_length="2"),
        said(416),
    ],
)
def test_a_server_that_goes_on_wrongly_is_asked_for_all_of_it(tmp_path: Path, web: Files, second: Any) -> None:
    half = said(200, b"hal", etag='"x"', content_length="5")
    web.files["/a"] = after(1, half, after(1, second, b"whole"))
    once = Download("photo", tries=3)
    made = Fetcher(tmp_path, web.host, 60, 2**20, lambda files: None)
    found = made.fetch(once, [web.url("/a")])[web.url("/a")]
    made.close()
    assert (found.state, found.digest) == ("kept", digest(b"whole"))
    assert [headers.get("range") for headers in web.headers["/a"]] == [None, "bytes=3-", None]


def test_a_line_of_the_journal_that_was_cut_is_none(tmp_path: Path, web: Files) -> None:
    web.files |= {"/a": b"one", "/b": b"two"}
    fetch(tmp_path, web, "/a")
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"key": "abc", "sta')
    assert fetch(tmp_path, web, "/a", "/b")["/b"].digest == digest(b"two")
    assert fetch(tmp_path, web, "/a", "/b")["/a"].digest == digest(b"one")
    assert web.asked == {"/a": 1, "/b": 1}


def test_a_full_disk_ends_the_run(tmp_path: Path, web: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    web.files["/a"] = b"data"
    made = Fetcher(tmp_path, web.host, 60, 2**20, lambda files: None)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("services.data.attachments.parts.os.replace", full)
    with pytest.raises(Failure) as failure:
        made.fetch(PHOTO, [web.url("/a")])
    made.close()
    assert failure.value.code is Code.STORAGE_FULL
