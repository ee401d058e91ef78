"""Chooses steps by what they explain of the first half beyond their columns. Pure."""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from services.data.feature_search import measures
from services.data.feature_search.candidates import Sampled, crossed, described
from services.data.feature_search.halves import Halves
from services.data.features.constants import Array
from services.data.features.fitting import FittedStep, fit
from services.data.features.graph import compile_graph
from services.data.features.steps import Step, Transform
from services.kit.errors import Failure

_TOGETHER = 64  # steps in one graph
_CHOSEN = 64
_MOST = 16  # different ones that are left
_ALIKE = 0.97  # rank correlation from which two steps are the same


@dataclass(order=True)
class Candidate:
    """A step with its values [rows, outputs], and what it explains of the first half."""

    score: float
    step: Step = field(compare=False)
    values: Array = field(compare=False)  # of a cross: the number of the pair
    equivalents: list[str] = field(default_factory=list, compare=False)

    @property
    def crosses(self) -> bool:
        return self.step.transform is Transform.CROSS

    def first(self, halves: Halves) -> list[Array]:
        """Its outputs for the rows of the first half, as models take them."""
        if self.crosses:
            return [halves.means(self.values[:, 0].astype(np.int64))[0]]
        return list(self.values[halves.first.rows].T.astype(np.float64))

    def second(self, halves: Halves) -> list[Array]:
        """The same for the second half."""
        if self.crosses:
            return [halves.means(self.values[:, 0].astype(np.int64))[1]]
        return list(self.values[halves.second.rows].T.astype(np.float64))


class Screening:
    """Tries steps on the columns of a sample."""

    def __init__(self, columns: Mapping[str, Sampled], halves: Halves) -> None:
        self._columns, self._halves = columns, halves
        self._residual = halves.first.residual
        self._alone = {name: self._explained(values) for name, values in halves.first.columns.items()}

    def best(self, steps: Sequence[Step], go_on: Callable[[int], bool]) -> tuple[list[Candidate], int]:
        """The best, and how many were tried: all as long as `go_on` of how many were tried says so."""
        chosen, tried, rest = list[Candidate](), 0, iter(steps)
        while go_on(tried) and (batch := list(islice(rest, _TOGETHER))):
            for step, values in self._values(batch):
                heapq.heappush(chosen, Candidate(self._beyond(step, values), step, values))
                if len(chosen) > _CHOSEN:
                    heapq.heappop(chosen)
            tried += len(batch)
        return sorted(chosen, reverse=True), tried

    def different(self, chosen: Sequence[Candidate]) -> list[Candidate]:
        """Without those that order the rows as a better one does, which is told of them."""
        kept: list[tuple[Candidate, Array]] = []
        for candidate in chosen:
            ranks = _ranks(candidate.first(self._halves)[0])
            same = next(
                (
                    one
                    for one, other in kept
                    if _same_part(one.step, candidate.step) or abs(float(ranks @ other)) > _ALIKE
                ),
                None,
            )
            if same is not None:
                same.equivalents.append(described(candidate.step))
            elif len(kept) < _MOST:
                kept.append((candidate, ranks))
        return [candidate for candidate, _ in kept]

    def _beyond(self, step: Step, values: Array) -> float:
        """What the best output of a step explains, beyond the best of its columns."""
        pairs = step.transform is Transform.CROSS
        explained = max(self._explained(each, pairs) for each in values[self._halves.first.rows].T)
        return explained - max(0.0, *(self._alone.get(name, 0.0) for name in step.columns.values()))

    def _explained(self, values: Array, pairs: bool = False) -> float:
        codes = measures.categories(values) if pairs else measures.bins(values)
        return measures.explained(codes, self._halves.first.folds, self._residual)

    def _values(self, steps: Sequence[Step]) -> Iterator[tuple[Step, Array]]:
        """Of each step that can be fitted. Aggregates and counts are of all rows: they say nothing of labels."""
        fitted: list[tuple[Step, FittedStep]] = []
        for step in steps:
            if step.transform is Transform.CROSS:
                yield step, crossed(self._columns, step)[:, None]
                continue
            values, *others = (self._columns[name].values for name in step.columns.values())
            try:
                fitted.append((step, fit(step, values, dict(zip(step.others, others, strict=True)))))
            except Failure:
                continue  # a step that has nothing to be fitted on adds nothing
        outputs, start = self._run([one for _, one in fitted]) if fitted else np.zeros((0, 0)), 0
        for step, one in fitted:
            yield step, outputs[:, start : start + len(one.outputs)].copy()  # one that is chosen holds no others
            start += len(one.outputs)

    def _run(self, fitted: Sequence[FittedStep]) -> Array:
        """By the graph that training and serving run, too."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(compile_graph(fitted), options, providers=["CPUExecutionProvider"])
        found: Array = session.run(
            None, {each.name: self._columns[each.name].values[:, None] for each in session.get_inputs()}
        )[0]
        return found


def _same_part(one: Step, other: Step) -> bool:
    """Whether both are of the same part of a time, as a number or as a cycle."""
    return bool(one.part) and (one.column, one.part) == (other.column, other.part)


def _ranks(values: Array) -> Array:
    """Ranks as a vector of length 1 around 0."""
    ranks = measures.ranked(np.nan_to_num(values, nan=-np.finfo(np.float64).max))
    ranks -= ranks.mean()
    return np.asarray(ranks / (float(np.linalg.norm(ranks)) or 1.0))
