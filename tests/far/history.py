"""Judges a history from outside: what was acknowledged is there, once, and its event is in the log centre, once."""

import collections
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

from aimass import Client

Line = dict[str, Any]
READS = frozenset({"prediction", "silent", "stream"})  # kinds of requests that change nothing


def acknowledged(history: Iterable[Line], kind: str) -> set[str]:
    """The numbers of the writes of a kind that were answered with success."""
    return {line["name"] for line in history if line["kind"] == kind and 200 <= line["status"] < 300}


def listed(client: Client, kind: str) -> list[str]:
    """The numbers of everything that there is of a kind, as the lists of the API say."""
    lists: dict[str, tuple[Callable[..., Any], str, str]] = {
        "source": (client.sources.list_sources, "sources", "source"),
        "model": (client.models.list_models, "models", "model"),
        "tenant": (client.access.list_tenants, "tenants", "tenant"),
        "subscription": (client.subscriptions.list_subscriptions, "subscriptions", "subscription"),
    }
    call, field, name = lists[kind]
    found, token = list[str](), ""
    while True:
        page = call(page_size=1000, page_token=token)
        names = [str(getattr(one, name)) for one in getattr(page, field)]
        found += [text.removeprefix("load-") for text in names if text.startswith("load-")]
        token = page.next_page_token
        if not token:
            return found


def events(client: Client, name: str, prefix: str) -> collections.Counter[str]:
    """How often the log centre has the event of each thing that is called `<prefix>load-<n>`, by its number."""
    found: collections.Counter[str] = collections.Counter()
    token = ""
    while True:
        page = client.logs.search_logs(query=f"kind:event AND name:{name}", page_size=1000, page_token=token)
        for record in page.records:
            subject = str(record.attributes["subject"])
            if subject.startswith(f"{prefix}load-"):
                found[subject.removeprefix(f"{prefix}load-")] += 1
        token = page.next_page_token
        if not token:
            return found


# The event that creating a thing of a kind causes, and what its subject begins with. (Those of a tenant are its own.)
EVENTS = {"source": ("SourceChanged", "sources/")}


def judge(client: Client, history: list[Line], seconds: float = 120) -> list[str]:
    """What is wrong, in sentences; nothing when every promise held. Waits for events that are on their way."""
    wrong: list[str] = []
    if silent := [line for line in history if line["status"] == 0]:
        wrong.append(f"{len(silent)} of {len(history)} requests ended without an answer")
    if bugs := [line for line in history if line["status"] in (500, 502)]:
        wrong.append(f"{len(bugs)} of {len(history)} requests ended as internal: {bugs[0]['said'][:200]}")
    for kind in sorted({line["kind"] for line in history} - READS):
        promised, there = acknowledged(history, kind), listed(client, kind)
        twice = [name for name, count in collections.Counter(there).items() if count > 1]
        if lost := promised - set(there):
            wrong.append(f"{len(lost)} of {len(promised)} acknowledged {kind}s are lost: {sorted(lost)[:5]}")
        if twice:
            wrong.append(f"{len(twice)} {kind}s are there twice: {twice[:5]}")
        if kind in EVENTS:
            wrong += _judge_events(client, kind, set(there), seconds)
    return wrong


def _judge_events(client: Client, kind: str, there: set[str], seconds: float) -> list[str]:
    deadline = time.monotonic() + seconds
    found = events(client, *EVENTS[kind])
    while there - set(found) and time.monotonic() < deadline:
        time.sleep(1)
        found = events(client, *EVENTS[kind])
    wrong = []
    if missing := there - set(found):
        wrong.append(f"the events of {len(missing)} of {len(there)} {kind}s are not in the log centre")
    if twice := [name for name, count in found.items() if count > 1]:
        wrong.append(f"the events of {len(twice)} {kind}s are in the log centre twice: {twice[:5]}")
    return wrong


def summary(history: list[Line], kind: str = "prediction") -> str:
    """How many were answered how, and how long it took."""
    lines = [line for line in history if (line["kind"] if line["kind"] in READS else "write") == kind]
    if not lines:
        return f"no {kind}s"
    statuses = collections.Counter(line["status"] for line in lines)
    took = sorted(line["took"] * 1000 for line in lines if 200 <= line["status"] < 300) or [0.0]
    said = ", ".join(f"{status or 'no answer'}: {count}" for status, count in sorted(statuses.items()))
    p99 = took[len(took) * 99 // 100]
    refused = sorted(line["refused"] for line in lines if line.get("refused"))
    if refused:
        said += f"; {len(refused)} refused first, slowest refusal p99 {refused[len(refused) * 99 // 100]:.2f} s"
    for line in [line for line in lines if 400 <= line["status"] < 500][:3]:
        said += f"; {line['status']} {line['said'][:200]}"
    return f"{len(lines)} {kind}s ({said}), p50 {statistics.median(took):.1f} ms, p99 {p99:.0f} ms"
