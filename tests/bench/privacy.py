"""How well personal data is found: precision and recall of each detector on a corpus that no detector has seen.

`python -m tests.bench.privacy [seed] [texts per detector]`. A value counts as found when all of it is covered by finds
of its detector; a find counts as right when it lies on a value of its detector, and as exact when it is that value.
"""

import sys
import time
from collections import Counter
from typing import NamedTuple

from services.kit.privacy.dictionary import east, names, plain
from services.kit.privacy.filtering import DETECTORS, Action, Filter, Rule, Rules
from tests.support.personal import EAST, Sample, corpus, pairs


class Score(NamedTuple):
    """Of one detector."""

    values: int
    recall: float
    precision: float
    exact: float


def measured(samples: list[Sample]) -> dict[str, Score]:
    """All detectors at once, as a filter with all of them works."""
    everything = Filter(Rules(tuple(Rule(name, Action.MASK) for name in DETECTORS)), lambda: b"")
    values, covered, finds, right, exact = (Counter[str]() for _ in range(5))
    for sample in samples:
        found = everything.finds(sample.text)
        for start, end, detector in sample.spans:
            values[detector] += 1
            own = [find for find in found if find.detector == detector]
            covered[detector] += all(any(f.start <= at < f.end for f in own) for at in range(start, end))
        for find in found:
            there = [s for s in sample.spans if s[2] == find.detector and s[0] < find.end and find.start < s[1]]
            finds[find.detector] += 1
            right[find.detector] += bool(there)
            exact[find.detector] += any(s[:2] == find[:2] for s in there)
    return {
        name: Score(
            values[name],
            covered[name] / max(values[name], 1),
            right[name] / max(finds[name], 1),
            exact[name] / max(finds[name], 1),
        )
        for name in DETECTORS
    }


def known() -> float:
    """The share of the corpus's names of which the dictionary has both parts."""
    held = names()
    both = [
        plain(g) in held.given and plain(f) in held.family for given, family in pairs() for g in given for f in family
    ]
    whole = [
        any(name[:size] in kind.family and name[size:] in kind.given for kind in east() for size in (1, 2, 3))
        for written in EAST.values()
        for name in written.split()
    ]
    return sum(both + whole) / len(both + whole)


def main() -> None:
    """Measures and prints."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    samples = corpus(seed, int(sys.argv[2]) if len(sys.argv) > 2 else 400)
    begun = time.perf_counter()
    found = measured(samples)
    seconds = time.perf_counter() - begun
    print(f"{'detector':12}{'values':>8}{'recall':>9}{'precision':>11}{'exact':>8}")
    for name, score in found.items():
        print(f"{name:12}{score.values:8d}{score.recall:9.3f}{score.precision:11.3f}{score.exact:8.3f}")
    size = sum(len(sample.text) for sample in samples)
    print(f"{len(samples)} texts, {size} characters, {size / seconds / 1e6:.2f} million characters a second")
    print(f"of the names of the corpus {known():.0%} have both parts in the dictionary")


if __name__ == "__main__":
    main()
