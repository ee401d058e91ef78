"""Gauges that are read at each scrape, such as the depth of a queue."""

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
    """Gauges by name. One may have several sources, such as each database of a process."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}

    def gauge(self, name: str, text: str, labels: Sequence[str], read: Read) -> Callable[[], None]:
        """Registers `read` as a source of values; call the result to unregister it.

        `read` is called in any thread, so it must neither block nor change anything. Label values must be few: names
        of services and states, never of tenants or things.
        """
        family = self._families.setdefault(name, _Family(text, tuple(labels)))
        family.reads.append(read)
        return lambda: family.reads.remove(read)

    def collect(self) -> Iterator[Metric]:
        for name, family in list(self._families.items()):
            made = GaugeMetricFamily(name, family.text, labels=family.labels)
            # Several of our processes in one Python process, as in tests, may report the same: the last one counts.
            values: dict[tuple[str, ...], float] = {}
            for read in list(family.reads):
                values |= {tuple(labels): value for labels, value in read()}
            for labels, value in values.items():
                made.add_metric(labels, value)
            yield made

    def describe(self) -> Iterable[Metric]:
        return []
