"""A file that is fetched in ranges reads as one that lies here."""

import io

from hypothesis import given
from hypothesis import strategies as st

from services.data.reading.ranged import Ranged

DATA = bytes(n * 7 % 251 for n in range(300_000))
STEP = st.tuples(st.sampled_from(["read", "seek", "end", "line"]), st.integers(0, 310_000))


@given(st.lists(STEP, max_size=12))
def test_it_reads_and_seeks_as_a_file_does(steps: list[tuple[str, int]]) -> None:
    def fetch(begin: int, end: int) -> bytes:
        assert 0 <= begin < end <= len(DATA)
        return DATA[begin:end]

    far, near = io.BufferedReader(Ranged(fetch, len(DATA))), io.BytesIO(DATA)
    for step, count in steps:
        for file in (far, near):
            if step == "seek":
                file.seek(count)
            elif step == "end":
                file.seek(-min(count, len(DATA)), io.SEEK_END)
        if step == "read":
            assert far.read(count) == near.read(count)
        elif step == "line":
            assert far.readline(count) == near.readline(count)
        assert far.tell() == near.tell()


def test_pieces_grow_while_it_is_read_on_and_are_small_elsewhere() -> None:
    size, asked = 100 * 2**20, list[tuple[int, int]]()

    def fetch(begin: int, end: int) -> bytes:
        asked.append((begin, end))
        return bytes(end - begin)

    file = io.BufferedReader(Ranged(fetch, size), 64 * 1024)
    while file.read(10_000):
        pass
    assert max(end - begin for begin, end in asked) == 8 * 2**20
    assert len(asked) < 20
    asked.clear()
    file.seek(0)
    file.read(10)
    assert [end - begin for begin, end in asked] == [64 * 1024]
