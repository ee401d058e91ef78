"""What queries read of a layout, by a sample of the rows. For children: imports numpy when it is used."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.data.datasets.dividing import PENDING
from services.data.datasets.layouts import Layout, Placing
from services.data.datasets.parquet import ROW_GROUP, ROWS_OF_FILE
from services.data.datasets.pruning import wanted
from services.data.partition_advice.candidates import Candidate
from services.data.partition_advice.costs import COSTS, Reading
from services.data.partition_advice.domain import Choice, Forecast
from services.data.partition_advice.draws import Draw, overlapping
from services.data.partition_advice.sampling import Sample


@dataclass(frozen=True)
class Laid:
    """Rows of a sample as they lie, or would: partitions, their files, and row groups."""

    layout: Layout | None
    placing: Placing | None
    rows: Any  # by partition
    files: Any  # by partition
    group: Any  # of each row of the sample, by number
    group_part: Any
    group_rows: Any


def as_it_is(sample: Sample, layout: Layout | None, placing: Placing | None) -> Laid:
    """The files of the version; without a layout they are read as one partition."""
    import numpy as np

    numbers = [file.partition if layout and file.partition is not None else 0 for file in sample.files]
    size = max(numbers, default=0) + 1
    part = np.asarray(numbers, np.int64)
    rows = np.bincount(part, [file.rows for file in sample.files], size) if numbers else np.zeros(1)
    files = np.bincount(part, minlength=size) if numbers else np.zeros(1, int)
    return Laid(layout, placing, rows, files, sample.group, part[sample.group_file], sample.group_rows)


def laid_out(sample: Sample, candidate: Candidate) -> Laid:
    """What dividing would make of the rows."""
    import numpy as np

    size, parts = candidate.placing.count, candidate.parts
    rows = np.bincount(parts, minlength=size) * sample.scale
    # Now and then all that waits is written, also what fills no row group.
    round_rows = max(PENDING / max(sample.row_bytes, 1) / sample.scale, 1)
    key = parts * (int(sample.size / round_rows) + 1) + (np.arange(sample.size) / round_rows).astype(np.int64)
    order = np.argsort(key, kind="stable")
    run = np.flatnonzero(np.diff(key[order], prepend=-1))
    within = np.arange(sample.size) - np.repeat(run, np.diff(np.append(run, sample.size)))
    full = (within * sample.scale / ROW_GROUP).astype(np.int64)
    new = (np.diff(key[order], prepend=-1) != 0) | (np.diff(full, prepend=0) != 0)
    group = np.empty(sample.size, np.int64)
    group[order] = np.cumsum(new) - 1
    group_rows = np.bincount(group) * sample.scale
    return Laid(
        candidate.layout,
        candidate.placing,
        rows,
        np.ceil(rows / ROWS_OF_FILE).astype(np.int64),
        group,
        parts[order][new],
        group_rows,
    )


class Simulator:
    """Asks draws of layouts."""

    def __init__(self, sample: Sample, draws: Sequence[Draw], appended: Sequence[int]) -> None:
        """`appended`: rows of the versions that were appended lately: as many may follow before the next rewrite."""
        self.sample, self.draws, self.appended = sample, draws, appended
        self.used = {part.column for draw in draws for part in draw.chosen}
        self.columns = max(len(sample.widths), 1)

    def choice(self, laid: Laid) -> Choice:
        """What an average query would read, and what the layout means."""
        found, read = Forecast(), list[tuple[Draw, Reading, Forecast]]()
        least, most = self._spans(laid)
        total = sum(draw.weight for draw in self.draws) or 1.0
        there = frozenset(int(part) for part in laid.rows.nonzero()[0])
        files = self._files(laid)
        for draw in self.draws:
            parts = there & wanted(draw.condition, laid.placing) if laid.placing else there
            read.append((draw, *self._read(draw, laid, parts, files, least, most)))
        means = {
            name: sum(draw.weight * getattr(each, name) for draw, _, each in read) / total
            for name in ("partitions_read", "files_read", "bytes_read", "seconds")
        }
        found = Forecast(
            **means,
            partitions=laid.placing.count if laid.placing else 0,
            files=int(laid.files.sum()),
            bytes=self.sample.bytes,
        )
        largest = float(laid.rows.max(initial=0.0))
        skew = largest * laid.placing.count / max(self.sample.rows, 1) if laid.placing else 0.0
        return Choice(laid.layout, found, skew, round(largest), round(largest * self.sample.row_bytes))

    def readings(self, laid: Laid) -> list[Reading]:
        """What each draw would read."""
        least, most = self._spans(laid)
        there = frozenset(int(part) for part in laid.rows.nonzero()[0])
        found = []
        for draw in self.draws:
            parts = there & wanted(draw.condition, laid.placing) if laid.placing else there
            found.append(self._read(draw, laid, parts, laid.files, least, most)[0])
        return found

    def _files(self, laid: Laid) -> Any:
        """Files of each partition half way to the next rewrite, when half of what will be appended has been."""
        shares = laid.rows / max(laid.rows.sum(), 1)
        later = sum(1 - (1 - shares) ** rows for rows in self.appended)
        return laid.files + later / 2

    def _spans(self, laid: Laid) -> tuple[dict[str, Any], dict[str, Any]]:
        """The smallest and the largest code of each row group, by column that queries choose by."""
        import numpy as np

        groups = len(laid.group_rows)
        order = np.argsort(laid.group, kind="stable")
        sorted_groups = laid.group[order]
        starts = np.flatnonzero(np.diff(sorted_groups, prepend=-1))
        least, most = dict[str, Any](), dict[str, Any]()
        for name in self.used:
            codes = self.sample.columns[name].codes[order]
            low, high = np.full(groups, -1, np.int64), np.full(groups, 2**62, np.int64)  # not sampled: anything
            if len(starts):
                high[sorted_groups[starts]] = np.maximum.reduceat(codes, starts)
                low[sorted_groups[starts]] = np.minimum.reduceat(np.where(codes < 0, 2**62, codes), starts)
            least[name], most[name] = low, high
        return least, most

    def _read(
        self, draw: Draw, laid: Laid, parts: frozenset[int], files: Any, least: dict[str, Any], most: dict[str, Any]
    ) -> tuple[Reading, Forecast]:
        import numpy as np

        sample, index = self.sample, sorted(parts)
        chosen = np.zeros(len(laid.rows), bool)
        chosen[index] = True
        opened, rows = float(files[index].sum()), float(laid.rows[index].sum())
        groups = chosen[laid.group_part]
        overlap = overlapping(draw, least, most)
        if overlap is not None:
            groups = groups & overlap
        hit = np.zeros(len(groups), bool)
        hit[laid.group[draw.rows]] = True
        hit &= groups
        tested = [part.column for part in draw.chosen]
        outputs = max(draw.columns * self.columns - len(tested), 0.0 if tested else 1.0)
        scanned = float(laid.group_rows[groups].sum())
        found = float(laid.group_rows[hit].sum())
        reading = Reading(
            float(files.sum()),
            opened,
            float(groups.sum()) * len(tested),
            float(hit.sum()) * outputs,
            scanned * len(tested),
            found * outputs,
        )
        share = rows / max(float(laid.rows.sum()), 1.0)
        forecast = Forecast(
            partitions_read=float(len(parts)) if laid.placing else 0.0,
            files_read=opened,
            bytes_read=share * sample.bytes,
            seconds=COSTS.of(reading),
        )
        return reading, forecast
