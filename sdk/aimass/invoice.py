"""An invoice from events alone: the sum of the ledger entries that `UsageSettled` reported in a month."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aimass.client import Client

_QUERY = "kind:event AND name:UsageSettled"
_PAGE = 1000
_KEY = ("project", "principal", "model", "kind")
USED = ("requests", "rows", "cpu_milliseconds", "money_micros", "tokens", "storage_mib_hours")


@dataclass
class Item:
    """The usage of one principal, model and kind."""

    project: str
    principal: str
    model: str
    kind: str
    entries: int = 0
    # How many of these were charged in full because the usage was never reported.
    estimated: int = 0
    requests: int = 0
    rows: int = 0
    cpu_milliseconds: int = 0
    money_micros: int = 0
    tokens: int = 0
    storage_mib_hours: int = 0


def rebuild(events: Iterable[Mapping[str, str]], month: str) -> list[Item]:
    """The items of a month (`2026-11`, UTC). An event that occurs twice counts once.

    An event maps paths such as `entry.used.rows` to values, like the attributes of its record; a missing path is 0.
    """
    seen, items = set[str](), dict[tuple[str, ...], Item]()
    for event in events:
        if event["entry.entry"] in seen or not event["entry.create_time"].startswith(f"{month}-"):
            continue
        seen.add(event["entry.entry"])
        project, principal, model, kind = (event.get(f"entry.{name}", "") for name in _KEY)
        item = items.setdefault((project, principal, model, kind), Item(project, principal, model, kind))
        item.entries += 1
        item.estimated += event.get("entry.estimated", "").lower() == "true"
        for name in USED:
            setattr(item, name, getattr(item, name) + int(event.get(f"entry.used.{name}", 0)))
    return [items[key] for key in sorted(items)]


def events(client: Client, month: str) -> Iterable[Mapping[str, str]]:
    """The `UsageSettled` events of the client's project since the start of a month, from the log centre."""
    begun = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    asked: dict[str, Any] = {"query": _QUERY, "since": begun, "page_size": _PAGE}
    token = ""
    while True:
        page = client.logs.search_logs(**asked, page_token=token)
        yield from (record.attributes for record in page.records)
        if not (token := page.next_page_token):
            return
