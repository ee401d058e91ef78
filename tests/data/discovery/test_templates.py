import random

import pytest

from services.data.discovery import headers, templates
from services.data.discovery.words import HOLE, words_of
from tests.data.discovery.systems import (
    SYSTEMS,
    Corpus,
    corpus,
    grouping_accuracy,
    template_accuracy,
)


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


@pytest.mark.parametrize("name", SYSTEMS)
def test_values_stand_where_the_messages_have_them(name: str) -> None:
    made = corpus(SYSTEMS[name], seed=11)

    assert template_accuracy(learnt(made.lines), made, SYSTEMS[name]) >= 0.9


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


def test_values_of_several_words_in_front_of_a_message_are_one() -> None:
    people = ["Ada Ito", "Bo Silva", "Carla Maria Okafor", "Dmitri van Laan", "Eve", "Farid Brandt", "Greta"]

    assert forms([f"{name} woke about {n}" for n, name in enumerate(people)]) == {"<*> woke about <*>"}


def test_what_an_id_is_of_tells_messages_apart() -> None:
    lines = [f"found {kind}_{n} in the cache of disk {n}" for n in range(50) for kind in ("shard", "piece")]

    assert forms(lines) == {"found shard<*> in the cache of disk <*>", "found piece<*> in the cache of disk <*>"}


def test_keys_of_values_are_the_words_of_a_message() -> None:
    keys = ["user.home", "user.name", "os.arch", "os.name", "java.home", "java.vendor", "file.separator"]

    assert len(forms([f"environment of server:{key}=v{n}" for n in range(9) for key in keys])) == len(keys)


def test_many_keys_are_values() -> None:
    lines = [f"Env:part{chr(97 + a)}.item{chr(97 + b)}=v{a}" for a in range(9) for b in range(9)]

    assert forms(lines) == {"Env:<*>"}


def test_what_a_state_is_called_in_front_of_a_message_is_its_own() -> None:
    names = ["klogd", "syslogd", "portmap", "crond", "cupsd", "hcid", "sdpd", "irqbalance"]

    assert len(forms([f"{name} startup succeeded" for name in names * 40])) == len(names)


def test_methods_are_values() -> None:
    lines = [f"{method} /basket/{n} took {n} ms" for n in range(20) for method in ("GET", "POST")]

    assert forms(lines) == {"<*> took <*>"}


def test_messages_with_one_beginning_stay_apart() -> None:
    sent = [f"order {n} shipped via {by}" for n, by in enumerate(["ferry", "garage", "tunnel", "locker", "gauge"] * 4)]
    lost = [f"order {n} lost by {by}" for n, by in enumerate(["anna", "boris", "chen", "dilek", "emma"] * 4)]

    assert forms(sent + lost) == {"order <*> shipped via <*>", "order <*> lost by <*>"}


def test_nothing_has_no_kinds() -> None:
    assert learnt([]) == []
