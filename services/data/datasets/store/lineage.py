"""Where lineage is kept, as edges."""

from collections.abc import Iterable

from sqlalchemy import and_, insert, or_, select
from sqlalchemy.engine import Connection

from services.data.datasets.domain import Lineage, LineageNode
from services.data.datasets.store.definitions import edge
from services.kit.auth import Scope
from services.kit.db import within

MOST = 1000  # nodes of one answer
_AT_ONCE = 100  # nodes that one statement asks for


def add(connection: Connection, scope: Scope, parents: Iterable[LineageNode], child: LineageNode) -> None:
    """Edges from each parent to a child that is new."""
    rows = [
        {
            **scope._asdict(),
            **{f"from_{part}": value for part, value in vars(parent).items()},
            **{f"to_{part}": value for part, value in vars(child).items()},
        }
        for parent in dict.fromkeys(parents)
    ]
    if rows:
        connection.execute(insert(edge), rows)


def around(connection: Connection, scope: Scope, start: LineageNode) -> Lineage:
    """Everything that `start` came from and everything that came of it, nearest first, at most MOST nodes."""
    nodes, edges = {start: None}, dict[tuple[LineageNode, LineageNode], None]()
    for ends in ("to", "from"):
        reached, news = {start}, [start]
        while news and len(nodes) < MOST:
            found = [
                pair
                for at in range(0, len(news), _AT_ONCE)
                for pair in _step(connection, scope, ends, news[at : at + _AT_ONCE])
            ]
            news = []
            for pair in found:
                other = pair[0] if ends == "to" else pair[1]
                if other not in nodes and len(nodes) >= MOST:
                    continue
                nodes[other] = edges[pair] = None
                if other not in reached:
                    reached.add(other)
                    news.append(other)
    return Lineage(tuple(nodes), tuple(edges))


def _step(
    connection: Connection, scope: Scope, ends: str, nodes: list[LineageNode]
) -> list[tuple[LineageNode, LineageNode]]:
    """The edges that end at (`to`) or begin at (`from`) some nodes."""
    columns = [edge.c[f"{ends}_{part}"] for part in ("kind", "name", "version")]
    wanted = or_(*(and_(*(c == v for c, v in zip(columns, vars(n).values(), strict=True))) for n in nodes))
    rows = connection.execute(select(edge).where(within(edge, scope) & wanted).order_by(*edge.primary_key))
    return [
        (LineageNode(r.from_kind, r.from_name, r.from_version), LineageNode(r.to_kind, r.to_name, r.to_version))
        for r in rows
    ]
