"""The search: leaks first, then steps that the first half of the rows chooses and the second half tests. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from services.data.feature_search import leaks, measures, models
from services.data.feature_search.candidates import Sampled, described, proposals
from services.data.feature_search.domain import Found, Proposal, Refusal
from services.data.feature_search.halves import Halves
from services.data.feature_search.measures import Gain
from services.data.feature_search.screening import Candidate, Screening
from services.data.features.constants import Array
from services.kit.errors import FailedPrecondition

LEAST_ROWS = 500  # of each half
LEAST_LABELS = 20  # of each label in each half
_SCREENING, _TESTING, _MEASURING = 0.5, 0.85, 0.95  # shares of the budget up to which each part may go on
_EQUIVALENTS = 10  # that are told
Tested = tuple[Candidate, Gain, Array]  # with the log odds of the second half


@dataclass(frozen=True)
class Settings:
    """What is searched for. `table_rows`: of the table that the sample was taken of."""

    rate: float
    table_rows: int
    time: str = ""
    allow: Sequence[str] = ()


class Searcher:
    """One search over a sample. `spent` is the share of the budget that is used up."""

    def __init__(
        self,
        columns: Sequence[Sampled],
        labels: Array,
        how: Settings,
        spent: Callable[[], float],
        tell: Callable[[float, str], None],
    ) -> None:
        self._labels, self._how, self._spent, self._tell = labels, how, spent, tell
        self._columns = {column.name: column for column in columns}
        self._halves = Halves(labels)

    def run(self) -> Found:
        """Raises failed_precondition for rows or columns that say too little."""
        self._check()
        self._tell(0.0, "looking for leaks")
        refusals = self._refuse()
        for half in self._halves:
            half.fit()
        steps = list(proposals(list(self._columns.values())))
        screening = Screening(self._columns, self._halves)

        def go_on(tried: int) -> bool:
            self._tell(0.1 + 0.5 * tried / max(len(steps), 1), f"tried {tried} of {len(steps)} steps")
            return self._spent() < _SCREENING

        chosen, tried = screening.best(steps, go_on)
        tested = list(self._tested(screening.different(chosen)))
        passed = measures.discoveries([gain.p_value for _, gain, _ in tested], self._how.rate)
        kept = [one for one, able in zip(tested, passed, strict=True) if able]
        kept.sort(key=lambda one: -one[1].mean)
        self._tell(0.9, f"measuring {len(kept)} proposals")
        half = self._halves.second
        found, trees, together = self._evidence(kept)
        auc = measures.auc(half.margins, half.labels)
        rows = len(self._labels)
        return Found(rows, len(steps), tried, len(tested), auc, trees, together, tuple(found), tuple(refusals))

    def _check(self) -> None:
        for half in self._halves:
            ones = int(half.labels.sum())
            if len(half.labels) < LEAST_ROWS or min(ones, len(half.labels) - ones) < LEAST_LABELS:
                raise FailedPrecondition(
                    f"a search needs {2 * LEAST_ROWS} rows with a label, and of each label {2 * LEAST_LABELS} or more"
                )

    def _refuse(self) -> list[Refusal]:
        """Takes the columns out that a model must not have."""
        everything, half = list(self._columns.values()), self._halves.first
        found = self._dropped(
            [
                *leaks.ids(everything, self._how.table_rows),
                *leaks.later(everything, self._how.time),
                *leaks.averages(everything, self._labels),
            ]
        )
        left = list(self._columns.values())
        scores = {one.name: leaks.alone(one, half.rows, half.labels, half.folds) for one in left}
        found += self._dropped(leaks.copies(scores))
        self._halves.take(list(self._columns.values()))
        if not half.columns:
            raise FailedPrecondition("no column is left to search in: they are refused, or text with too many values")
        strong = {name: scores[name] for name in half.columns if scores[name] >= leaks.STRONG}
        found += self._dropped(leaks.lonely(strong, {name: half.auc_without(name) for name in strong}))
        if not half.columns:
            raise FailedPrecondition("no column is left to search in: they are refused")
        return found

    def _dropped(self, refusals: Sequence[Refusal]) -> list[Refusal]:
        found = [refusal for refusal in refusals if refusal.column not in self._how.allow]
        for refusal in found:
            self._columns.pop(refusal.column, None)
            self._halves.drop(refusal.column)
        return found

    def _tested(self, candidates: Sequence[Candidate]) -> Iterator[Tested]:
        """Each with what it adds to the second half beyond its own columns."""
        half = self._halves.second
        for place, candidate in enumerate(candidates):
            if self._spent() > _TESTING:
                return
            self._tell(0.6 + 0.3 * place / len(candidates), f"testing {described(candidate.step)}")
            own = [half.columns[name] for name in candidate.step.columns.values() if name in half.columns]
            before = models.added(own, half.labels, half.folds, half.margins) if own else half.margins
            after = models.added([*candidate.second(self._halves), *own], half.labels, half.folds, half.margins)
            gain = measures.gain(*(measures.log_loss(margins, half.labels) for margins in (before, after)))
            yield candidate, gain, after

    def _evidence(self, kept: Sequence[Tested]) -> tuple[list[Proposal], float, float]:
        """The proposals, and what trees say without them and with all."""
        half = self._halves.second
        base = list(half.columns.values())
        trees = self._trees(base)
        found, every = list[Proposal](), list[Array]()
        for candidate, gain, margins in kept:
            values = candidate.second(self._halves)
            every += values
            able = self._spent() < _MEASURING
            alone = leaks.alone_values(values[0], half.labels, half.folds)
            found.append(
                Proposal(
                    candidate.step,
                    f"{described(candidate.step)} says more of the label than its columns do by themselves",
                    *gain,
                    auc=measures.auc(margins, half.labels),
                    auc_trees=self._trees([*base, *values]) if able else 0.0,
                    auc_alone=alone,
                    equivalents=tuple(candidate.equivalents[:_EQUIVALENTS]),
                    suspicious=alone >= leaks.ALONE,
                )
            )
        return found, trees, self._trees([*base, *every]) if every and self._spent() < 1 else trees

    def _trees(self, columns: Sequence[Array]) -> float:
        half = self._halves.second
        return measures.auc(models.whole(columns, half.labels, half.folds), half.labels)
