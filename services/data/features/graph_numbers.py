"""Numbers in a graph: what has no batch-invariant operator is computed by operators that are exact to the last bit.

Addition, multiplication, division, square root and comparison of FP64 are rounded in one way only, whatever the batch
and the instruction set. Results agree with numpy's to about 1e-15 before they become FP32.
"""

import math
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np

from services.data.features.constants import Bins, Cycle, Power
from services.data.features.nodes import Graph

EARTH = 6371.0088  # mean radius in kilometres (IUGG)
SMALLEST = 1e-280  # of which there is a logarithm
_DIGITS = Context(prec=40)


def _odd(terms: list[Fraction]) -> list[float]:
    """Coefficients in float of a polynomial of squares, highest power first."""
    return [float(term) for term in reversed(terms)]


_TURN = Fraction(2) * Fraction(Decimal("3.14159265358979323846264338327950288419716939937510"))
_SINE = _odd([(-1) ** n * _TURN ** (2 * n + 1) / math.factorial(2 * n + 1) for n in range(12)])
_ARCSINE = _odd([Fraction(math.comb(2 * n, n), 4**n * (2 * n + 1)) for n in range(20)])
_LOG1P = _odd([Fraction((-1) ** (n + 1), n) for n in range(1, 10)])
_PARTS = 64


def sine(graph: Graph, turns: str) -> str:
    """The sine of so many full turns; NaN for NaN and infinity."""
    rest = graph.add("Sub", turns, graph.add("Round", turns))  # from -1/2 to 1/2
    size = graph.add("Abs", rest)
    mirrored = graph.add("Sub", graph.number(0.5), size)
    small = graph.add("Where", graph.add("Greater", size, graph.number(0.25)), mirrored, size)
    found = graph.add("Mul", small, graph.polynomial(graph.add("Mul", small, small), _SINE))
    return graph.add("Mul", graph.add("Sign", rest), found)


def cycle(graph: Graph, work: Cycle, value: str) -> str:
    """Sine and cosine [rows, 2]; zeros where there is none."""
    turns = graph.add("Div", graph.add("Sub", value, graph.number(work.offset)), graph.number(work.length))
    quarter = graph.add("Add", turns, graph.number(0.25))
    found = sine(graph, graph.add("Concat", turns, quarter, axis=1))
    return graph.add("Where", graph.add("IsNaN", found), graph.number(0.0), found)


def bins(graph: Graph, work: Bins, value: str) -> str:
    """1 for the bin of the value, FP32; zeros for a missing one."""
    count = len(work.edges) + 1
    place = graph.steps_at(value, np.array(work.edges or (np.inf,)))
    if not work.edges:
        place = graph.add("Mul", place, graph.whole(0))
    return graph.one_of(graph.add("Where", graph.add("IsNaN", value), graph.whole(count), place), count)


def logarithm(graph: Graph, value: str) -> str:
    """The natural logarithm; NaN below SMALLEST, for infinity and NaN.

    x = 2^(64 i) 2^j c (1 + r) with a table for each factor: r is below 1/64, where the series is short.
    """
    above = graph.add("GreaterOrEqual", value, graph.number(SMALLEST))
    inside = graph.add("And", above, graph.add("Less", value, graph.number(math.inf)))
    value = graph.add("Where", inside, value, graph.number(math.nan))
    big = graph.steps_at(value, 2.0 ** (64.0 * np.arange(-14, 16)))
    value = graph.add("Mul", value, graph.rows_at(2.0 ** (-64.0 * np.arange(-15, 16))[:, None], big))
    small = graph.steps_at(value, 2.0 ** np.arange(1, 64))
    value = graph.add("Mul", value, graph.rows_at(2.0 ** -np.arange(64.0)[:, None], small))
    starts = 1 + np.arange(_PARTS) / _PARTS
    part = graph.steps_at(value, starts[1:])
    start = graph.rows_at(starts[:, None], part)
    rest = graph.add("Div", graph.add("Sub", value, start), start)
    found = graph.add("Mul", rest, graph.polynomial(rest, _LOG1P))
    logs = np.array([[float(Decimal(at).ln(_DIGITS))] for at in starts.tolist()])
    twos = graph.add("Add", graph.add("Mul", big, graph.whole(64)), graph.add("Sub", small, graph.whole(64 * 15)))
    power = graph.add("Mul", graph.double(twos), graph.number(float(Decimal(2).ln(_DIGITS))))
    return graph.add("Add", power, graph.add("Add", graph.rows_at(logs, part), found))


def power(graph: Graph, work: Power, value: str) -> str:
    """A power: products for a whole one, a root for a half; the runtime's operator, which is no batch's, for others."""
    size = abs(work.exponent)
    if size == 0.5:
        found = graph.add("Sqrt", value)
    elif size != int(size):
        return graph.add("Pow", value, graph.number(work.exponent))
    else:
        found = _product(graph, value, int(size))
    return found if work.exponent > 0 else graph.add("Div", graph.number(1.0), found)


def _product(graph: Graph, value: str, times: int) -> str:
    if times == 1:
        return value
    half = _product(graph, value, times // 2)
    square = graph.add("Mul", half, half)
    return graph.add("Mul", square, value) if times % 2 else square


def distance(graph: Graph, points: list[str]) -> str:
    """Kilometres on a great circle between two points: latitude, longitude, latitude, longitude in degrees."""
    south, west, north, east = (graph.add("Div", point, graph.number(360.0)) for point in points)
    half = graph.number(2.0)
    angles = [graph.add("Div", graph.add("Sub", to, at), half) for at, to in ((south, north), (west, east))]
    angles += [graph.add("Add", at, graph.number(0.25)) for at in (south, north)]
    sines = sine(graph, graph.add("Concat", *angles, axis=1))
    up, along, first, second = (graph.add("Gather", sines, graph.whole(place), axis=1) for place in range(4))
    both = graph.add("Mul", graph.add("Mul", first, second), graph.add("Mul", along, along))
    chord = graph.add("Sqrt", graph.add("Add", graph.add("Mul", up, up), both))
    return graph.add("Mul", _arcsine(graph, graph.add("Min", chord, graph.number(1.0))), graph.number(2 * EARTH))


def _arcsine(graph: Graph, value: str) -> str:
    """Of a number from 0 to 1: above 1/2 by that of a smaller one."""
    large = graph.add("Greater", value, graph.number(0.5))
    rest = graph.add("Div", graph.add("Sub", graph.number(1.0), value), graph.number(2.0))
    small = graph.add("Where", large, graph.add("Sqrt", rest), value)
    found = graph.add("Mul", small, graph.polynomial(graph.add("Mul", small, small), _ARCSINE))
    mirrored = graph.add("Sub", graph.number(math.pi / 2), graph.add("Mul", found, graph.number(2.0)))
    return graph.add("Where", large, mirrored, found)
