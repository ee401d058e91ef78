"""Parts of times in a graph, in UTC: whole numbers in FP64, which are exact.

Years begin in March here, so that the day that some have is their last.
"""

import numpy as np
from onnx import TensorProto

from services.data.features.constants import Date, circle
from services.data.features.nodes import Graph
from services.data.features.steps import DatePart

LENGTHS = {DatePart.HOUR: 24, DatePart.WEEKDAY: 7, DatePart.MONTH: 12, DatePart.DAY_OF_YEAR: 366}
FIRST = {DatePart.HOUR: 0, DatePart.WEEKDAY: 0, DatePart.MONTH: 1, DatePart.DAY_OF_YEAR: 1}
_DAY, _ERA, _EPOCH = 86_400, 146_097, 719_468  # seconds; days in 400 years; days from 0000-03-01 to 1970-01-01
# Beyond a million years FP64 has no exact seconds.
_LATEST = 1e13


def date(graph: Graph, work: Date, value: str) -> str:
    """A part of a time: FP64 and NaN for a missing one; or sine and cosine in FP32, and zeros for a missing one."""
    inside = graph.add("Less", graph.add("Abs", value), graph.number(_LATEST))
    seconds = graph.add("Floor", graph.add("Where", inside, value, graph.number(0.0)))
    part = _part(graph, work.part, seconds)
    if not work.cyclic:
        return graph.add("Where", inside, part, graph.number(float("nan")))
    place = graph.add("Cast", graph.add("Sub", part, graph.number(FIRST[work.part])), to=TensorProto.INT64)
    length = LENGTHS[work.part]
    table = np.vstack([circle(length), np.zeros((1, 2), np.float32)])
    return graph.rows_at(table, graph.add("Where", inside, place, graph.whole(length)))


def _part(graph: Graph, part: DatePart, seconds: str) -> str:
    day = _over(graph, seconds, _DAY)
    if part is DatePart.HOUR:
        return _over(graph, _less(graph, seconds, day, _DAY), 3600)
    if part is DatePart.WEEKDAY:  # 1970 began on a Thursday
        shifted = graph.add("Add", day, graph.number(3))
        return _less(graph, shifted, _over(graph, shifted, 7), 7)
    year, of_year = _year(graph, graph.add("Add", day, graph.number(_EPOCH)))
    return _month(graph, of_year) if part is DatePart.MONTH else _day_of_year(graph, year, of_year)


def _over(graph: Graph, value: str, by: int) -> str:
    return graph.add("Floor", graph.add("Div", value, graph.number(by)))


def _less(graph: Graph, value: str, times: str, by: int) -> str:
    return graph.add("Sub", value, graph.add("Mul", times, graph.number(by)))


def _year(graph: Graph, day: str) -> tuple[str, str]:
    """The year of its 400 years, and the day of that year, from 0, of a day since 0000-03-01."""
    day = _less(graph, day, _over(graph, day, _ERA), _ERA)
    # Less the last days of four years, of 100 and of 400.
    plain = graph.add("Add", graph.add("Sub", day, _over(graph, day, 1460)), _over(graph, day, 36_524))
    year = _over(graph, graph.add("Sub", plain, _over(graph, day, _ERA - 1)), 365)
    first = graph.add("Add", graph.add("Mul", year, graph.number(365)), _over(graph, year, 4))
    return year, graph.add("Sub", day, graph.add("Sub", first, _over(graph, year, 100)))


def _month(graph: Graph, day: str) -> str:
    """From a day of a year that begins in March: months have 30.6 days there, on average of five."""
    month = _over(graph, graph.add("Add", graph.add("Mul", day, graph.number(5)), graph.number(2)), 153)
    early = graph.add("Less", month, graph.number(10))
    return graph.add("Add", month, graph.add("Where", early, graph.number(3), graph.number(-9)))


def _day_of_year(graph: Graph, year: str, day: str) -> str:
    """January and February are the last 59 or 60 days of a year that begins in March."""
    leap = np.array([[float(at % 4 == 0 and (at % 100 != 0 or at == 0))] for at in range(400)])
    extra = graph.rows_at(leap, graph.add("Cast", year, to=TensorProto.INT64))
    later = graph.add("Add", graph.add("Add", day, graph.number(60)), extra)
    january = graph.add("GreaterOrEqual", day, graph.number(306))
    return graph.add("Where", january, graph.add("Sub", day, graph.number(305)), later)
