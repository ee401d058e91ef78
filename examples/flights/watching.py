"""Step 9: what really happened comes back, and everything that was done can be found."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from standardwebhooks import Webhook

from aimass import Client, Failure
from examples.flights.definitions import CANDIDATES, LABEL, MODEL
from examples.flights.story import Story, expect, soon
from examples.flights.training import stored

_PORTION, _PORTIONS = 1000, 3


def outcomes(story: Story) -> None:
    """Predicts flights, tells how late they really were, and reads how good each version was."""
    with (
        Client(story.client.door.url, story.facts["fast key"], ca=story.client.door.ca or None) as client,
        story.busy("flights land"),
    ):
        for name in CANDIDATES:
            table = _spread(stored(story, name))
            for part in range(_PORTIONS):
                _one_portion(story, client, name, table.slice(part * _PORTION, _PORTION))
    quality = soon(lambda: _measured(story))
    expect(bool(quality), "no live quality was measured")
    for version in sorted(quality, key=lambda version: int(version.version)):
        story.facts.setdefault("live AUC", {})[version.version] = version.auc
        text = f"live AUC {version.auc:.4f} on {version.with_outcome:,} flights that landed"
        story.say(f"version {version.version}: {text}, of {version.predictions:,} predictions")


def _spread(table: pa.Table) -> pa.Table:
    """So many rows, from the first day to the last."""
    return table.take(list(range(0, len(table), max(len(table) // (_PORTION * _PORTIONS), 1))))


def _one_portion(story: Story, client: Client, name: str, table: pa.Table) -> None:
    number = story.facts[name]["version"]
    if not len(table):
        return
    signature = story.client.models.get_model_version(model=MODEL, version=number).signature
    columns = {spec.name: table.column(spec.name).to_pylist() for spec in signature.inputs}
    answer = client.predict(MODEL, columns=columns, version=number)
    expect(answer.version == number, f"version {answer.version} answered, not {number}")
    story.facts["a request"] = answer.request_id
    reply = story.client.record_outcomes(MODEL, answer.request_id, table.column(LABEL).to_pylist())
    story.facts["outcomes"] = story.facts.get("outcomes", 0) + reply.recorded


def _measured(story: Story) -> list[Any]:
    found = story.client.monitors.get_quality(model=MODEL).versions
    joined = sum(version.with_outcome for version in found)
    return list(found) if joined == story.facts["outcomes"] else []


def traces(story: Story) -> None:
    """Finds its own calls by request, by model, by text; counts them; and reads the webhook that came."""
    request = story.facts["a request"]
    queries = {
        "by request": f"request_id:{request}",
        "by model": f"kind:prediction AND model:{MODEL}",
        "by text": '"POST" AND kind:log',
        "events": "kind:event AND name:ReleaseChanged",
    }
    for what, query in queries.items():
        found = soon(lambda query=query: story.client.logs.search_logs(query=query, page_size=100).records)  # type: ignore[misc]
        expect(bool(found), f"nothing was found for {query}")
        newest = found[0].text[:60] or f"{found[0].kind} of {found[0].model} version {found[0].version}"
        story.say(f"{what}: {query} finds {len(found)}{'+' if len(found) == 100 else ''}, the newest: {newest}")
    spans = soon(lambda: _spans(story, request))
    expect(bool(spans), f"request {request} has no trace")
    story.say(f"the trace of request {request}: {' → '.join(span.name for span in spans[:4])}")
    since = datetime.now(UTC) - timedelta(hours=1)
    counted = story.client.logs.count_logs(query="", since=since, step_seconds=60)
    story.facts["log records"] = counted.total
    busiest = max(counted.buckets, key=lambda bucket: bucket.count)
    story.say(f"{counted.total:,} records in {len(counted.buckets)} minute(s), {busiest.count:,} in the busiest")
    _webhook(story)


def _spans(story: Story, request: str) -> list[Any]:
    try:
        return list(story.client.logs.get_trace(request_id=request).spans)
    except Failure as failure:
        if failure.code != "not_found":
            raise
        return []


def _webhook(story: Story) -> None:
    headers, body = story.installation.sink.first(30)
    Webhook(story.facts["hook secret"]).verify(body, headers, json_parse=False)
    story.facts["webhooks"] = len(story.installation.sink.received)
    story.say(f"a webhook came, its signature is right: “{body.decode()}”")
