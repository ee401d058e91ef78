"""The child of a clustering: reads the series, chooses medoids, and writes which key belongs to which."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from services.data.datasets import parquet, statistics
from services.data.series_clusters.domain import Clustering, Wanted, sampled
from services.kit.child import Child, Json
from services.kit.errors import FailedPrecondition

_CLUSTERING = TypeAdapter(Clustering)
_PROGRESS = 0.5  # seconds between two words to the parent, each of which is a transaction there
_PIECE = 1_000  # series that are prepared together
Tell = Callable[[float, str], None]


def main(request: Json, child: Child) -> Json:
    """Raises limit_exceeded for too many keys, failed_precondition for fewer series than clusters."""
    from services.data.series_clusters.reading import Reader

    work = _CLUSTERING.validate_python(request["clustering"])
    told = time.monotonic()

    def tell(progress: float, message: str) -> None:
        nonlocal told
        if time.monotonic() - told > _PROGRESS:
            told = time.monotonic()
            child.progress({"progress": progress, "message": message})

    child.progress({"progress": 0.0, "message": "reading series"})
    series = Reader(work, request["files"], Path(request["scratch"]), int(request["sort_mib"])).read()
    if len(series.values) < work.wanted.clusters:
        text = f"{len(series.values)} of {len(series.there)} keys have {work.wanted.rows} rows with enough values"
        raise FailedPrecondition(f"{text}: fewer than {work.wanted.clusters} clusters")
    found = _clustered(work.wanted, series.values, tell)
    files, seen = _written(work, series, found, Path(request["folder"]))
    said = {"series": len(series.values), "left_out": len(series.there) - len(series.values)}
    said |= {"rows_without_time": series.rows_without_time}
    return {"files": files, "statistics": seen, "found": said | found["said"]}


def _clustered(wanted: Wanted, values: Any, tell: Tell) -> Json:
    """Of each series its cluster, its distance, and whether it is the medoid; and what is said of all."""
    import numpy as np

    from services.data.series.decomposition import filled
    from services.data.series.warping import distances, scaled
    from services.data.series_clusters import medoids

    for start in range(0, len(values), _PIECE):
        some = values[start : start + _PIECE]
        for index in np.flatnonzero(np.isnan(some).any(axis=1)).tolist():
            some[index] = filled(some[index])
        if wanted.scaled:
            some[:] = scaled(some)
    count = sampled(len(values), wanted.rows, wanted.band)
    random = np.random.default_rng(wanted.seed)
    chosen = np.sort(random.choice(len(values), count, replace=False))
    apart = medoids.between(values[chosen], wanted.band, lambda part: tell(0.1 + 0.6 * part, "comparing series"))
    stand = chosen[medoids.medoids(apart, wanted.clusters, wanted.seed)]
    far = np.empty((len(stand), len(values)))
    for index, place in enumerate(stand.tolist()):
        tell(0.7 + 0.3 * index / len(stand), "assigning series")
        far[index] = distances(values, values[place], wanted.band)
    cluster, distance, other = medoids.nearest(far)
    # One that is like another medoid to the last bit stays its own.
    cluster[stand], distance[stand] = np.arange(len(stand)), 0.0
    # By size, the largest first; of equal ones by key.
    sizes = np.bincount(cluster, minlength=len(stand))
    order = np.argsort(-sizes, kind="stable")
    rank = np.empty(len(stand), np.int64)
    rank[order] = np.arange(len(stand))
    cluster = rank[cluster]
    means = np.bincount(cluster, distance) / np.bincount(cluster)
    width = np.maximum(other, np.finfo(float).tiny)
    said = {
        "clusters": [
            {"cluster": index, "series": int(size), "mean_distance": float(mean)}
            for index, (size, mean) in enumerate(zip(sizes[order], means, strict=True))
        ],
        "chosen_from": count,
        "silhouette": float(np.where(other > 0, (other - distance) / width, 0.0).sum() / len(values)),
    }
    return {"cluster": cluster, "distance": distance, "medoids": stand, "said": said}


def _written(work: Clustering, series: Any, found: Json, folder: Path) -> tuple[list[Json], list[Json]]:
    """A row for each key, with NULL for what was left out."""
    import numpy as np
    import pyarrow as pa

    count, there = len(series.there), np.flatnonzero(series.there)
    cluster, distance, medoid = np.zeros(count, np.int64), np.zeros(count), np.zeros(count, bool)
    cluster[there], distance[there], medoid[there[found["medoids"]]] = found["cluster"], found["distance"], True
    added = [pa.array(column, mask=~series.there) for column in (cluster, distance)]
    table = pa.table([*series.keys.columns, *added, pa.array(medoid)], names=[c.name for c in work.outputs])
    writer, seen = parquet.Writer(folder, work.outputs), statistics.Statistics(work.outputs)
    writer.write(table)
    seen.add(table)
    return parquet.to_json(writer.close()), statistics.to_json(seen.result())
