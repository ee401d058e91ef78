"""Step 8: another version takes over while requests run, and back."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aimass import Client
from examples.flights.definitions import MODEL
from examples.flights.story import Story, expect
from examples.flights.training import promote, stored

_ASKING = 3
_LINGER = 0.5  # seconds that requests run on after each change


@dataclass
class Asking:
    """Threads that ask without a pause, and what they were told."""

    url: str
    key: str
    columns: dict[str, list[Any]]
    ca: str | None = None
    answers: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with Client(self.url, self.key, ca=self.ca) as client:
            while not self.stop.is_set():
                try:
                    self.answers[client.predict(MODEL, columns=self.columns).version] += 1
                except Exception as error:
                    self.failures.append(str(error))


def switch_under_load(story: Story) -> None:
    """Promotes the other version and rolls back; a webhook tells whoever wants to know."""
    better, other = story.facts["better"], story.facts["other"]
    hook = story.client.subscriptions.create_subscription(
        subscription="promotions",
        description="tell the crew when another model decides",
        filter="kind:event AND name:ReleaseChanged",
        webhook={"url": story.installation.sink.url},
        template={"subject": "{{record.model}} changed", "body": "{{record.name}}: {{record.model | upper}}"},
    )
    story.facts["hook secret"] = hook.signing_secret
    table = stored(story, better).slice(0, 3)
    names = [spec.name for spec in _signature(story).inputs]
    columns = {name: table.column(name).to_pylist() for name in names}
    asking = Asking(story.client.door.url, story.facts["fast key"], columns, story.installation.ca or None)
    threads = [threading.Thread(target=asking.run, daemon=True) for _ in range(_ASKING)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(_LINGER)
        promote(story, other, "to see that it can be done")
        time.sleep(_LINGER)
        back = story.wait(story.client.releases.rollback_release(model=MODEL, reason="it was better before"))
        time.sleep(_LINGER)
    finally:
        asking.stop.set()
        for thread in threads:
            thread.join(30)
    _judge(story, asking, back.serving.version)


def _signature(story: Story) -> Any:
    number = story.facts[story.facts["better"]]["version"]
    return story.client.models.get_model_version(model=MODEL, version=number).signature


def _judge(story: Story, asking: Asking, serving: int) -> None:
    first, second = (story.facts[story.facts[name]]["version"] for name in ("better", "other"))
    expect(not asking.failures, f"{len(asking.failures)} requests failed: {asking.failures[:1]}")
    expect(set(asking.answers) == {first, second}, f"answers came from versions {sorted(asking.answers)}")
    expect(serving == first, f"after the rollback version {serving} serves")
    story.facts["requests while switching"] = asking.answers.total()
    counts = ", ".join(f"{count:,} by version {version}" for version, count in sorted(asking.answers.items()))
    story.say(f"no failed request of {asking.answers.total():,}: {counts}; version {serving} serves again")
