"""Chooses a layout: the cheapest of all that are tried, or one about as cheap that is simpler. Pure but for numpy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.data.datasets.layouts import MOST, Layout, Placing, Strategy
from services.data.datasets.parquet import ROW_GROUP
from services.data.partition_advice import reasons
from services.data.partition_advice.candidates import candidates, fields
from services.data.partition_advice.domain import Advice, Choice, Machine
from services.data.partition_advice.draws import drawn, mix
from services.data.partition_advice.history import Asked
from services.data.partition_advice.sampling import Sample
from services.data.partition_advice.simulating import Simulator, as_it_is, laid_out
from services.data.schema import ColumnType
from services.kit.errors import Code, Failure

_GAIN, _GUESSED = 0.10, 0.25  # of the time of a query, that a rewrite must save; where no query is known
_ALIKE = 0.03  # of the time: what costs so little more is as cheap
_LARGE = 64 * 2**20  # bytes in memory, for each core, above which each gets a part of its own
_SHOWN = 3
_SIMPLE = (Strategy.HASH, Strategy.KEY, Strategy.RANGE)


@dataclass(frozen=True)
class Question:
    """What advice is wanted for: rows, what is asked of them, and where."""

    sample: Sample
    layout: Layout | None
    types: dict[str, ColumnType]
    history: Sequence[Asked]
    appended: Sequence[int]
    machine: Machine
    masked: Sequence[str] = ()


def advise(question: Question, tell: Callable[[float], bool] = lambda done: True) -> Advice:
    """The advice. `tell` hears how far it is, and says whether there is time to try more.

    Raises limit_exceeded where there is none before anything was tried.
    """
    sample, machine = question.sample, question.machine
    mixed = mix(sample, question.history)
    simulator = Simulator(sample, drawn(sample, mixed), question.appended)
    placing = Placing(question.layout, question.types) if question.layout else None
    undivided = simulator.choice(as_it_is(sample, None, None))
    current = simulator.choice(as_it_is(sample, question.layout, placing)) if placing else undivided
    # Dividing holds a row group of each partition.
    most = int(min(MOST, max(machine.dividing_memory / 4 / max(ROW_GROUP * sample.row_bytes, 1), 2)))
    groups, found, stopped = fields(sample, mixed), list[Choice](), False
    for candidate in candidates(sample, groups, most):
        if not tell(min(len(found) / (18 * max(len(groups), 1)), 1.0)):
            stopped = True
            break
        found.append(simulator.choice(laid_out(sample, candidate)))
    if stopped and not found:
        raise Failure(Code.LIMIT_EXCEEDED, "the time was used up before a layout was tried")
    best = _chosen(found, undivided, machine, _GAIN if question.history else _GUESSED)
    others = _others(found, best)
    wanted = reasons.Basis(question.history, question.masked, sample, machine, question.appended, most, stopped)
    return Advice(
        best,
        reasons.of(best, undivided, found, wanted),
        undivided.forecast,
        current.forecast,
        others,
        sum(asked.counts.queries for asked in question.history),
        len(found),
        sample.rows,
    )


def _chosen(found: Sequence[Choice], undivided: Choice, machine: Machine, gain: float) -> Choice:
    # A partition must fit into the memory of a query, so that one can be sorted or joined.
    fitting = [choice for choice in found if choice.largest_bytes <= machine.query_memory] or found
    if not fitting:
        return undivided
    least = min(choice.forecast.seconds for choice in fitting)
    if least > undivided.forecast.seconds * (1 - gain):
        return undivided
    alike = [choice for choice in fitting if choice.forecast.seconds <= least * (1 + _ALIKE)]
    large = undivided.largest_bytes > _LARGE * machine.cores

    def order(choice: Choice) -> tuple[bool, int, float, int, float]:
        assert choice.layout
        few = large and choice.count < machine.cores
        simple = _SIMPLE.index(choice.layout.strategy)
        return (few, len(choice.layout.fields), round(max(choice.skew, 2.0)), simple, choice.forecast.seconds)

    return min(alike, key=order)


def _others(found: Sequence[Choice], best: Choice) -> tuple[Choice, ...]:
    """The cheapest of each other strategy and other columns."""
    kinds: dict[tuple[Strategy, tuple[str, ...]], Choice] = {}
    for choice in sorted(found, key=lambda choice: choice.forecast.seconds):
        if choice.layout:
            kinds.setdefault((choice.layout.strategy, choice.layout.fields), choice)
    if best.layout:
        kinds.pop((best.layout.strategy, best.layout.fields), None)
    return tuple(kinds.values())[:_SHOWN]
