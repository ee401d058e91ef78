"""Why a layout is advised, in words. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.data.datasets.layouts import MOST, Strategy
from services.data.partition_advice.domain import Choice, Machine
from services.data.partition_advice.draws import supposed
from services.data.partition_advice.history import Asked, Kind, Shape
from services.data.partition_advice.sampling import Sample

_WORDS = {
    Kind.EQUAL: "{} equal to a value",
    Kind.AMONG: "{} among values",
    Kind.RANGE: "{} in a range",
    Kind.ABOVE: "{} above a bound",
    Kind.BELOW: "{} below a bound",
}
_MIB = 2**20


@dataclass(frozen=True)
class Basis:
    """What advice was made of."""

    history: Sequence[Asked]
    masked: Sequence[str]
    sample: Sample
    machine: Machine
    appended: Sequence[int]
    most: int  # partitions
    stopped: bool = False


def of(best: Choice, undivided: Choice, tried: Sequence[Choice], basis: Basis) -> tuple[str, ...]:
    """Sentences: what is asked, what was chosen and why, what it saves, and what limits it."""
    found = [_asked(basis)]
    if best.layout is None:
        found.append(_none(undivided, tried, basis))
    else:
        found += [_strategy(best, basis), _saved(best, undivided), _count(best, undivided, basis)]
    names = {test.column for asked in basis.history for test in asked.shape}
    if hidden := sorted(name for name in names if name.lower() in basis.masked):
        found.append(f"{', '.join(hidden)}: masked, so its values cannot divide the rows.")
    if basis.appended:
        found.append(
            f"{len(basis.appended)} of the last versions were appended: each such version adds a file to every "
            "partition that it has rows of, until the data set is divided anew."
        )
    if basis.stopped:
        found.append(f"The time was used up after {len(tried)} layouts: others were not tried.")
    return tuple(found)


def _asked(basis: Basis) -> str:
    queries = sum(asked.counts.queries for asked in basis.history)
    if not queries:
        guessed = [_shape(shape) for shape, _, _ in supposed(basis.sample) if shape]
        text = "; ".join(dict.fromkeys(guessed)) or "all of the rows"
        return f"No query of it is known. Supposed is that half of them read all rows, and the others: {text}."
    weights: dict[str, float] = {}
    for asked in basis.history:
        weights[_shape(asked.shape)] = weights.get(_shape(asked.shape), 0.0) + asked.weight
    total = sum(weights.values()) or 1.0
    parts = [f"{weights[text] / total:.0%} {text}" for text in sorted(weights, key=lambda text: -weights[text])[:3]]
    return f"Of {queries} queries, newer ones counting more: {'; '.join(parts)}."


def _shape(shape: Shape) -> str:
    return " and ".join(_WORDS[test.kind].format(test.column) for test in shape) or "read all rows"


def _none(undivided: Choice, tried: Sequence[Choice], basis: Basis) -> str:
    rows, forecast = basis.sample.rows, undivided.forecast
    text = f"A query of {rows} rows in {forecast.files} files takes about {_time(forecast.seconds)} undivided"
    if not tried:
        return f"{text}, and there is no column to divide by."
    least = min(choice.forecast.seconds for choice in tried)
    return f"{text}; the best of {len(tried)} ways to divide it would take {_time(least)}, which does not pay."


def _strategy(best: Choice, basis: Basis) -> str:
    layout = best.layout
    assert layout
    names = " and ".join(layout.fields)
    distinct = [len(basis.sample.columns[name].values) for name in layout.fields]
    sizes = f"{max(distinct)}{' or more' if basis.sample.scale > 1 else ''} different values"
    match layout.strategy:
        case Strategy.HASH:
            why = f"rows are asked for by what {names} equals, and the parts stay even as new values come"
        case Strategy.KEY:
            why = f"{names} has few values that are asked for, or a few that many rows have ({sizes})"
        case _:
            why = (
                f"the bounds follow how rows are spread over {names} ({sizes}): ranges and single values read few parts"
            )
    return f"Divided by {layout.strategy} of {names}: {why}."


def _saved(best: Choice, undivided: Choice) -> str:
    now, then = undivided.forecast, best.forecast
    return (
        f"An average query would read {_size(then.bytes_read)} in {then.files_read:.1f} of {then.files} files, "
        f"instead of {_size(now.bytes_read)} in {now.files_read:.1f} undivided, and take {_time(then.seconds)} instead "
        f"of {_time(now.seconds)}."
    )


def _count(best: Choice, undivided: Choice, basis: Basis) -> str:
    machine = basis.machine
    text = (
        f"{best.count} partitions: with more, a query that reads several opens more files; with fewer, it reads "
        f"more rows. The largest has {best.largest_rows} rows, {best.skew:.1f} times the mean, and "
        f"{_size(best.largest_bytes)} in memory, of {_size(machine.query_memory)} that a query may use"
    )
    if undivided.largest_bytes > machine.query_memory:
        text += ", which all rows together do not fit into"
    if best.count >= machine.cores > 1:
        text += f"; each of {machine.cores} cores can work on one of its own"
    if basis.most < MOST:
        text += f"; dividing has memory for at most {basis.most}"
    return f"{text}."


def _size(count: float) -> str:
    return f"{count / _MIB:.1f} MiB" if count >= _MIB / 10 else f"{count / 1024:.1f} KiB"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
