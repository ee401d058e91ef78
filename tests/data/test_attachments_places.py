"""The places that a run notes: bounded, however many rows name however much."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
import pytest

from services.data.attachments import attaching, fetcher
from services.data.attachments.attaching import MANIFEST, Attaching
from services.data.reading.downloads import Download
from tests.support.downloads import Files

PATHS = [f"/{number}" for number in range(5)]


@pytest.fixture
def web() -> Iterator[Files]:
    with Files() as made:
        made.files |= {path: path.encode() for path in PATHS}
        yield made


def attached(folder: Path, web: Files, *batches: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """What became of the URLs of a column, batch by batch; the places that are noted, and what people are told."""
    said = {"folder": str(folder), "allow": web.host, "seconds": 60.0, "most": 2**20}
    made, states = Attaching.of(said, lambda files: None), list[str]()
    for urls in batches:
        states += [outcome.state for outcome in made.fetch(0, Download("photo", tries=1), urls) if outcome]
    notes = made.close()
    lines = [orjson.loads(line) for line in (folder / MANIFEST).read_bytes().splitlines()]
    return states, sorted(line["origin"] for line in lines), notes


def test_what_can_be_no_place_is_refused_and_noted_nowhere(tmp_path: Path, web: Files) -> None:
    place = web.url(PATHS[0])
    others = [f"https://a.example/{more}" for more in ("x" * 3000, "ß" * 1500, "\0")]
    states, noted, notes = attached(tmp_path, web, [place, *others])
    assert (states, noted) == (["kept", *["refused"] * 3], [place])
    assert notes == ["3 of 4 files of photo were not fetched"]


def test_a_run_has_so_much_room_for_places(tmp_path: Path, web: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [web.url(path) for path in PATHS]
    monkeypatch.setattr(attaching, "_NOTED", 3 * (256 + len(urls[0])))
    states, noted, notes = attached(tmp_path, web, urls[:2], urls)
    assert states == ["kept"] * 5 + ["failed"] * 2
    assert noted == urls[:3]
    assert web.asked.total() == 3, "what is not noted was fetched"
    assert notes == ["2 of 5 files of photo were not fetched"]


def test_files_that_are_too_many_are_noted_nowhere(tmp_path: Path, web: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [web.url(path) for path in PATHS]
    monkeypatch.setattr(fetcher, "_URLS", 3)
    assert attached(tmp_path, web, urls)[:2] == (["kept"] * 3 + ["failed"] * 2, urls[:3])
