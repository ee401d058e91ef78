import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.logs.ingest.segments import Frame, Make, Position, Segments
from tests.support.power import Disk

_open: list[Segments] = []


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    yield
    while _open:
        _open.pop().close()


def opened(folder: Path, most: int = 10_000, seconds: float = 3600) -> Segments:
    made = Segments(folder, most, seconds)
    made.open()
    _open.append(made)
    return made


def batch(number: int, size: int = 50) -> tuple[str, int, Make]:
    return f"event-{number}", 2, lambda segment, sequence: f"{number}:".encode() + b"x" * size


def everything(segments: Segments) -> list[Frame]:
    kept: list[Frame] = []
    position = Position()
    while True:
        frames, position = segments.read(position, 100)
        if not frames:
            return kept
        kept += frames


def numbers(segments: Segments) -> list[int]:
    return [int(frame.block.split(b":")[0]) for frame in everything(segments)]


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.seg"))


def test_what_was_appended_is_read_in_order(tmp_path: Path) -> None:
    segments = opened(tmp_path)
    segments.append([batch(0), batch(1)])
    segments.append([batch(2)])

    assert numbers(segments) == [0, 1, 2]
    assert [frame.sequence for frame in everything(segments)] == [0, 2, 4]
    assert segments.sequence == 6


def test_segments_are_sealed_and_read_on(tmp_path: Path) -> None:
    segments = opened(tmp_path, most=200)
    for number in range(20):
        segments.append([batch(number)])

    assert len(files(tmp_path)) > 5
    assert numbers(segments) == list(range(20))
    assert numbers(opened(tmp_path)) == list(range(20))


def test_an_old_segment_is_sealed(tmp_path: Path) -> None:
    segments = opened(tmp_path, seconds=0)
    segments.append([batch(0)])
    segments.append([batch(1)])

    assert len(files(tmp_path)) == 2


def test_an_event_that_comes_again_is_known_also_after_a_restart(tmp_path: Path) -> None:
    segments = opened(tmp_path)
    assert len(segments.append([batch(0), batch(1), batch(0)])) == 2
    segments.close()

    again = opened(tmp_path)
    assert [int(frame.block.split(b":")[0]) for frame in again.append([batch(1), batch(2)])] == [2]
    assert numbers(again) == [0, 1, 2]


@pytest.mark.parametrize("cut", [1, 10, 31, 32, 50, 80])
def test_a_torn_tail_is_cut_and_written_again(tmp_path: Path, cut: int) -> None:
    segments = opened(tmp_path)
    segments.append([batch(0)])
    segments.append([batch(1)])
    segments.close()
    (path,) = files(tmp_path)
    os.truncate(path, path.stat().st_size - cut)

    again = opened(tmp_path)
    assert numbers(again) == [0]
    again.append([batch(1)])
    assert numbers(again) == [0, 1]
    assert [frame.sequence for frame in everything(again)] == [0, 2]


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 0.999), bit=st.integers(0, 7))
def test_a_flipped_bit_costs_one_frame_and_is_put_aside(
    tmp_path_factory: pytest.TempPathFactory, place: float, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    segments = opened(folder, most=500)
    for number in range(8):
        segments.append([batch(number)])
    first = files(folder)[0]
    data = bytearray(first.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    first.write_bytes(data)

    kept = numbers(segments)

    assert len(kept) == 7
    assert sorted(kept) == kept
    assert segments.damaged == 1
    assert len(list((folder / "quarantine").iterdir())) == 1
    assert numbers(opened(folder)) == kept


def test_damage_in_the_middle_of_the_last_segment_does_not_cut_what_follows(tmp_path: Path) -> None:
    segments = opened(tmp_path)
    for number in range(3):
        segments.append([batch(number)])
    segments.close()
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)

    again = opened(tmp_path)
    again.append([batch(3)])
    assert numbers(again) == [0, 2, 3]
    assert [frame.sequence for frame in everything(again)] == [0, 4, 6]


def test_what_was_appended_or_rewritten_is_there_after_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, segments = Disk(monkeypatch), opened(tmp_path, most=200)
    for number in range(9):
        segments.append([batch(number)])
        assert all(disk.has(file) for file in files(tmp_path))
    first = segments.turn()[0]
    assert segments.rewrite(first, lambda block: b"-" * len(block))

    assert len(files(tmp_path)) > 2
    assert all(disk.has(file) for file in files(tmp_path) if file.stat().st_size)


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segments = opened(tmp_path)
    segments.append([batch(0)])

    def full(descriptor: int) -> None:
        raise OSError(28, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", full)
        with pytest.raises(OSError, match="no space"):
            segments.append([batch(1)])

    assert numbers(segments) == [0]
    segments.append([batch(1)])
    assert numbers(segments) == [0, 1]


def test_one_who_followed_files_that_are_gone_begins_anew(tmp_path: Path) -> None:
    segments = opened(tmp_path)
    segments.append([batch(0)])

    frames, _ = segments.read(Position(999, 5))
    assert len(frames) == 1


_WRITER = """
import sys
from pathlib import Path
from services.logs.ingest.segments import Segments
segments = Segments(Path(sys.argv[1]), 20_000)
segments.open()
number = segments.sequence // 2
while True:
    blocks = {n: f"{n}:".encode() + b"x" * 3000 for n in range(number, number + 3)}
    segments.append([(f"event-{n}", 2, lambda *place, n=n: blocks[n]) for n in blocks])
    number += 3
    print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_it_confirmed(tmp_path: Path) -> None:
    confirmed = 0
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout
        for _ in range(20):
            confirmed = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        writer.stdout.close()
        writer.wait()

    kept = numbers(opened(tmp_path))
    assert kept[:confirmed] == list(range(confirmed))
    assert kept == list(range(len(kept)))
