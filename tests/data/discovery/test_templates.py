import random

import pytest

from services.data.discovery import headers, templates
from services.data.discovery.words import HOLE, words_of
from tests.data.discovery.systems import SYSTEMS, Corpus, corpus, grouping_accuracy


def learnt(lines: list[str]) -> list[templates.Template]:
    header = headers.find(lines)
    texts = [header.content(line) for line in lines]
    return templates.learn([words_of(line if text is None else text) for line, text in zip(lines, texts, strict=True)])


def forms(lines: list[str]) -> set[str]:
    return {" ".join(found.words).replace(HOLE, "<*>") for found in learnt(lines)}


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> Corpus:
    return corpus(SYSTEMS[request.param], seed=11)


def test_lines_of_one_message_are_of_one_kind(system: Corpus) -> None:
    accuracy = grouping_accuracy([found.lines for found in learnt(system.lines)], system.truth)

    assert accuracy >= 0.95


def test_the_order_of_the_lines_does_not_matter(system: Corpus) -> None:
    lines = system.lines[:1000]
    shuffled = random.Random(3).sample(lines, len(lines))

    assert forms(shuffled) == forms(lines)


def test_every_line_is_of_one_kind() -> None:
    found = corpus(SYSTEMS["store"], seed=5, size=500)
    numbers = [number for kind in learnt(found.lines) for number in kind.lines]

    assert sorted(numbers) == list(range(500))


def test_words_that_come_again_and_again_make_kinds_of_their_own() -> None:
    assert forms([f"valve {n} {state}" for n in range(50) for state in ("opened", "closed")]) == {
        "valve <*> opened",
        "valve <*> closed",
    }


def test_words_that_are_nearly_always_others_are_values() -> None:
    names = ["anna", "boris", "chen", "dilek", "emma", "farid", "greta"]

    assert forms([f"welcome {name} to the garage" for name in names]) == {"welcome <*> to the garage"}


def test_values_of_several_words_are_one() -> None:
    reasons = ["rain", "no driver", "road is closed", "parcel too large", "lost", "wrong door again", "left early"]

    assert forms([f"tour {n} cancelled: {reason}" for n, reason in enumerate(reasons)]) == {"tour <*> cancelled: <*>"}


def test_messages_with_one_beginning_stay_apart() -> None:
    sent = [f"order {n} shipped via {by}" for n, by in enumerate(["ferry", "garage", "tunnel", "locker", "gauge"] * 4)]
    lost = [f"order {n} lost by {by}" for n, by in enumerate(["anna", "boris", "chen", "dilek", "emma"] * 4)]

    assert forms(sent + lost) == {"order <*> shipped via <*>", "order <*> lost by <*>"}


def test_nothing_has_no_kinds() -> None:
    assert learnt([]) == []
