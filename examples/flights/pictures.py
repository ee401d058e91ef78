"""Pictures as SVG text, drawn without any library: curves, bars of two kinds, a graph in columns."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby

_SIZE, _EDGE = 360, 44
_COLORS = ("#2563eb", "#d97706", "#059669", "#7c3aed")
Point = tuple[float, float]


def curves(title: str, across: str, up: str, lines: Mapping[str, Sequence[Point]]) -> str:
    """Lines in the unit square, with the diagonal."""
    drawn = [_frame(title, across, up), f'<path d="{_path([(0, 0), (1, 1)])}" class="diagonal"/>']
    for number, (name, points) in enumerate(lines.items()):
        color = _COLORS[number % len(_COLORS)]
        drawn.append(f'<path d="{_path(points)}" stroke="{color}" fill="none" stroke-width="2"/>')
        x, y = _at((0.42, 0.06 + 0.07 * number))
        drawn.append(f'<text x="{x}" y="{y}" style="fill:{color}">{escape(name)}</text>')
    return _picture(_SIZE, _SIZE, drawn, title)


def _frame(title: str, across: str, up: str) -> str:
    left, bottom = _at((0, 0))
    right, top = _at((1, 1))
    marks = []
    for share in (0.0, 0.5, 1.0):
        x, y = _at((share, share))
        marks.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle" class="small">{share:g}</text>')
        marks.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end" class="small">{share:g}</text>')
    middle = _SIZE / 2
    return (
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" class="frame"/>{"".join(marks)}'
        f'<text x="{middle}" y="18" text-anchor="middle" class="title">{escape(title)}</text>'
        f'<text x="{middle}" y="{_SIZE - 6}" text-anchor="middle" class="small">{escape(across)}</text>'
        f'<text x="12" y="{middle}" text-anchor="middle" class="small" transform="rotate(-90 12 {middle})">'
        f"{escape(up)}</text>"
    )


def _at(point: Point) -> Point:
    span = _SIZE - 2 * _EDGE
    return round(_EDGE + point[0] * span, 1), round(_SIZE - _EDGE - point[1] * span, 1)


def _path(points: Iterable[Point]) -> str:
    return "M" + " L".join(f"{x} {y}" for x, y in map(_at, points))


def graph(title: str, edges: Sequence[tuple[str, str]]) -> str:
    """A graph without circles, from left to right: a node stands behind everything it came from."""
    depth = depths(edges)
    columns = [
        list(names) for _, names in groupby(sorted(depth, key=lambda name: (depth[name], name)), depth.__getitem__)
    ]
    width, height, tall = 230, 44, max(map(len, columns), default=1)
    place = {
        name: (20 + column * width, 40 + (row + (tall - len(names)) / 2) * height)
        for column, names in enumerate(columns)
        for row, name in enumerate(names)
    }
    drawn = [f'<text x="20" y="20" class="title">{escape(title)}</text>']
    for source, target in edges:
        (x, y), (to_x, to_y) = place[source], place[target]
        middle = (x + 180 + to_x) / 2
        curve = f"M{x + 180} {y + 14} C{middle} {y + 14} {middle} {to_y + 14} {to_x} {to_y + 14}"
        drawn.append(f'<path d="{curve}" class="edge"/>')
    for name, (x, y) in place.items():
        drawn.append(f'<rect x="{x}" y="{y}" width="180" height="28" rx="6" class="node"/>')
        drawn.append(f'<text x="{x + 90}" y="{y + 18}" text-anchor="middle" class="small">{escape(name)}</text>')
    return _picture(len(columns) * width + 20, tall * height + 60, drawn, title)


def depths(edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """How many edges lie at most before each node; only so many rounds, since a circle would never end."""
    found = {name: 0 for edge in edges for name in edge}
    for _ in range(len(found)):
        for source, target in edges:
            found[target] = max(found[target], found[source] + 1)
    return found


def _picture(width: float, height: float, drawn: Iterable[str], title: str) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img"'
    return f'{head} aria-label="{escape(title)}">{"".join(drawn)}</svg>'
