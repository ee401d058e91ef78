"""Figures that are read when somebody looks: how deep a queue is, how busy a pool."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

# Values with their labels, in the order of the labels' names.
Read = Callable[[], Iterable[tuple[Sequence[str], float]]]


@dataclass
class _Family:
    text: str
    labels: Sequence[str]
    reads: list[Read] = field(default_factory=list)


class Gauges(Collector):
    """Gauges by name. Several may read into one, such as each database of a process."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}

    def gauge(self, name: str, text: str, labels: Sequence[str], read: Read) -> Callable[[], None]:
        """Adds what `read` gives, whenever somebody looks; call the result to take it away again.

        `read` is called in any thread, so it looks at what it finds, waits for nothing and changes nothing. Values of
        labels must be few: names of services and states, never of tenants or things.
        """
        family = self._families.setdefault(name, _Family(text, tuple(labels)))
        family.reads.append(read)
        return lambda: family.reads.remove(read)

    def collect(self) -> Iterator[Metric]:
        for name, family in list(self._families.items()):
            made = GaugeMetricFamily(name, family.text, labels=family.labels)
            # Processes that share a Python process, as tests do, may say the same: the last word counts.
            said: dict[tuple[str, ...], float] = {}
            for read in list(family.reads):
                said |= {tuple(labels): value for labels, value in read()}
            for labels, value in said.items():
                made.add_metric(labels, value)
            yield made

    def describe(self) -> Iterable[Metric]:
        return []
