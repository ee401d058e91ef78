"""Steps 2 to 4: sources, rules, data sets with versions, features."""

from typing import Any

from aimass.v1 import datasets_pb2, extractions_pb2
from examples.flights import definitions
from examples.flights.story import Story, expect, soon


def sources_and_rules(story: Story) -> None:
    """Registers four sources, looks into each, writes one rule of each kind, tests and activates it."""
    client, installation = story.client, story.installation
    client.access.who_am_i()
    soon(lambda: installation.access_log.stat().st_size)  # a call is in the log a moment later
    for name, kind in definitions.sources(installation.seen, installation.seen_log).items():
        client.sources.create_source(source=name, **kind)
        preview = client.sources.preview_source(source=name, records=20)
        expect(len(preview.records) > 0, f"the preview of {name} is empty")
        story.say(f"{name}: {len(preview.schema.columns)} columns in {len(preview.parts)} part(s)")
    for name, (source, definition) in definitions.RULES.items():
        client.rules.create_rule(rule=name, source=source, definition=definition)
        tested = client.rules.test_rule(rule=name, records=1000)
        expect(tested.coverage > 0.95, f"rule {name} covers {tested.coverage:.0%} of a sample")
        client.rules.activate_rule(rule=name, version=1)
        story.say(f"rule {name} ({next(iter(definition))}): covers {tested.coverage:.1%} of {tested.tried:,} records")


def extract(story: Story, *rules: str) -> dict[str, extractions_pb2.Extraction]:
    """Runs extractions side by side."""
    started = {rule: story.client.extractions.run_extraction(rule=rule) for rule in rules}
    return {rule: story.wait(handle) for rule, handle in started.items()}


def first_version(story: Story) -> None:
    """January to September become tables; a pipeline derives the flights."""
    for rule, done in extract(story, *definitions.RULES).items():
        story.facts[f"{rule} rows"] = done.rows_accepted
        story.say(f"{rule}: {done.rows_accepted:,} rows, {done.rows_quarantined:,} quarantined")
    story.client.pipelines.create_pipeline(pipeline="derive-flights", steps=[definitions.PIPELINE])
    version = _derive(story)
    quality = version.quality
    excluded = ", ".join(f"{count:,} {reason}" for reason, count in quality.excluded.items())
    story.say(f"flights version 1: {version.rows:,} rows, {len(version.schema.columns)} columns, left out: {excluded}")
    aside = story.client.data_sets.list_quarantine(data_set="flights_raw", version=1, page_size=1).rows
    expect(len(aside) == 1, "no broken row was put aside")
    story.say(f"quarantined, for example: {aside[0].origin}, because {aside[0].reason}")
    story.facts["version 1"] = _count(story, 1)


def _derive(story: Story) -> datasets_pb2.DataSetVersion:
    run = story.wait(story.client.pipelines.run_pipeline(pipeline="derive-flights"))
    return story.client.data_sets.get_data_set_version(data_set="flights", version=run.outputs[0].version)


def _count(story: Story, version: int) -> dict[str, Any]:
    answer = story.client.data_sets.query_data_sets(
        sql="SELECT count(*) AS rows, avg(late) AS late FROM flights",
        tables=[{"data_set": "flights", "version": version}],
    )
    return dict(answer.rows[0].items())


def second_version(story: Story) -> None:
    """October to December happen: only what is new is read, and the first version stays what it was."""
    before = story.facts["flights_raw rows"]
    with story.busy("October to December happen"):
        story.company.months(range(10, 13))
    done = extract(story, "flights_raw", "weather")
    expect(done["flights_raw"].data_set_version == 2, "the second extraction made no version 2")
    expect(done["flights_raw"].records_read < before, "the second extraction read again what it knew")
    version = _derive(story)
    expect(version.version == 2, f"flights has version {version.version}, not 2")
    expect(_count(story, 1) == story.facts["version 1"], "version 1 reads differently now")
    story.facts["flights rows"], story.facts["flights versions"] = version.rows, version.version
    story.facts["base rate"] = _count(story, 2)["late"]
    story.facts["quality"] = {column.column: column.nulls for column in version.quality.columns}
    story.say(f"only {done['flights_raw'].records_read:,} new flights were read; version 1 reads as before")
    story.say(f"flights version 2: {version.rows:,} rows, {story.facts['base rate']:.1%} of them late")
    story.facts["lineage"] = _lineage(story)


def _lineage(story: Story) -> list[tuple[str, str]]:
    found = story.client.data_sets.get_lineage(data_set="flights", version=2)
    return [(_name(getattr(edge, "from")), _name(edge.to)) for edge in found.edges]


def _name(node: datasets_pb2.LineageNode) -> str:
    return f"{node.kind}:{node.name}" + (f"@{node.version}" if node.version else "")


def features(story: Story) -> None:
    """Fits the features on the months to learn from; they compile to one ONNX graph."""
    story.client.feature_sets.create_feature_set(
        feature_set=definitions.LABEL,
        data_set="flights",
        label=definitions.LABEL,
        key=definitions.KEY,
        steps=definitions.STEPS,
    )
    train = {"column": "month", "from": 1, "to": definitions.LAST_TRAINING_MONTH}
    version = story.wait(story.client.feature_sets.fit_feature_set(feature_set=definitions.LABEL, train=train))
    story.facts["features"] = len(version.outputs)
    story.say(
        f"{len(definitions.STEPS)} steps over {version.rows:,} rows give {len(version.outputs)} numbers, one graph"
    )
