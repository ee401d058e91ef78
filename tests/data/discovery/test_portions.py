from services.data.discovery.headers import Header
from services.data.discovery.portions import LONGEST, MOST, chosen
from services.data.discovery.templates import Template
from services.data.discovery.words import HOLE


def portions(*kinds: tuple[int, int, int]) -> list[int]:
    """How many lines are chosen of kinds with so many values, lines, and characters of a line."""
    lines, templates = list[str](), list[Template]()
    for values, count, length in kinds:
        templates.append(Template((HOLE,) * values, tuple(range(len(lines), len(lines) + count))))
        lines += ["x" * length] * count
    found = chosen(templates, [Header()] * len(templates), lines)
    assert all(set(own) <= set(kind.lines) for own, kind in zip(found, templates, strict=True))
    return list(map(len, found))


def test_all_lines_of_a_small_kind_are_looked_at() -> None:
    assert portions((3, 50, 80), (1, 5000, 80)) == [50, MOST]


def test_as_many_as_there_is_time_for_are_looked_at_of_lines_with_many_values() -> None:
    first, second, small = portions((59, 400, LONGEST), (59, 400, LONGEST), (2, 1000, 60))

    assert small == 1000
    assert 40 <= first <= second <= 60  # 10^8 characters times groups, for both of them
    assert portions((10_000, 20, LONGEST)) == [0]


def test_lines_that_are_too_long_are_not() -> None:
    assert portions((1, 3, LONGEST + 1), (1, 3, LONGEST)) == [0, 3]


def test_which_ones_are_chosen_does_not_change() -> None:
    kind = Template((HOLE,), tuple(range(3000)))
    lines = [str(n) for n in range(3000)]

    assert chosen([kind], [Header()], lines) == chosen([kind], [Header()], lines)
