"""The child that advises: reads a sample of the rows and tries layouts on it until its time is used up."""

import os
import time
from pathlib import Path

from pydantic import TypeAdapter

from services.data.datasets import parquet
from services.data.datasets.layouts import Layout
from services.data.partition_advice.domain import Advice, Advising, Machine
from services.data.schema import Column, ColumnType
from services.kit.child import Child, Json

_KEPT = 0.8  # of the time, of processors and by the clock, that is used for trying
_TELL = 0.5  # seconds between two words to the parent
_LOOKED_AT = 12  # columns of which a sample is read where no query is known
_MIB = 2**20


def main(request: Json, child: Child) -> Json:
    """An Advising with `folder`, `files`, `columns`, `layout`, `memory`, `cpu_seconds` and `seconds` to an Advice."""
    from services.data.partition_advice.choosing import Question, advise
    from services.data.partition_advice.sampling import sampled

    until = time.monotonic() + _KEPT * float(request["seconds"])
    asked = TypeAdapter(Advising).validate_python(request)
    columns = tuple(Column(name, ColumnType(kind), bool(null)) for name, kind, null in request["columns"])
    files = parquet.from_json(request["files"])
    query_memory, dividing_memory = (int(mib) * _MIB for mib in request["memory"])
    machine = Machine(len(os.sched_getaffinity(0)), query_memory, dividing_memory)
    sample = sampled(Path(request["folder"]), files, columns, looked_at(asked, columns))
    layout = TypeAdapter(Layout | None).validate_python(request["layout"])
    types = {column.name: column.type for column in columns}
    question = Question(sample, layout, types, asked.history, asked.appended, machine, asked.masked)
    seconds, told, tried = _KEPT * float(request["cpu_seconds"]), time.monotonic(), 0

    def tell(progress: float) -> bool:
        nonlocal told, tried
        tried += 1
        if time.monotonic() - told > _TELL:
            told = time.monotonic()
            child.progress({"progress": progress, "tried": tried})
        return time.process_time() < seconds and time.monotonic() < until

    answer: Json = TypeAdapter(Advice).dump_python(advise(question, tell), mode="json")
    return answer


def looked_at(asked: Advising, columns: tuple[Column, ...]) -> list[str]:
    """The columns that queries choose by, those that they choose by most; then others. None that is masked."""
    weights: dict[str, float] = {}
    for each in asked.history:
        for test in each.shape:
            weights[test.column] = weights.get(test.column, 0.0) + each.weight
    there = [column.name for column in columns if column.name.lower() not in asked.masked]
    order = sorted(there, key=lambda name: -weights.get(name, 0.0))
    return order[:_LOOKED_AT]
