"""Logs with stack traces, from a preview to rows, over a restart of the service."""

import os
import time
from pathlib import Path

from google.protobuf.json_format import MessageToDict, ParseDict

from aimass.v1 import rules_pb2, sources_pb2
from aimass.v1.rules_pb2_grpc import RulesStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from services.data.reading.multiline import NO_START
from services.kit.errors import Code
from tests.data import places
from tests.data.discovery.planted import planted
from tests.data.discovery.systems import SYSTEMS, corpus
from tests.data.extracting import Tenant
from tests.support.house import house
from tests.support.refused import code_of, refused


async def test_a_log_with_traces_becomes_records_that_a_restart_neither_loses_nor_doubles(home: Path) -> None:
    truth = planted(corpus(SYSTEMS["parcels"], 3, 300).lines, seed=7)
    text = "".join(f"{line}\n" for line in truth.lines)
    half = text[: len(text) // 2]
    log = places.write(home, "app.log", half)
    described = {"pattern": "app.log", "format": "FILE_FORMAT_TEXT"}
    async with house(home, "data") as running:
        tenant, sources = Tenant(running), running.stub(SourcesStub, "data")
        shown = await sources.PreviewSource(ParseDict({"files": described}, sources_pb2.PreviewSourceRequest()))
        source = {"files": MessageToDict(shown.suggested)}
        started = "(?P<at>[0-9-]+ [0-9:,]+) (?P<text>(?s:.*))"
        columns = [{"name": name, "type": "COLUMN_TYPE_STRING"} for name in ("at", "text")]
        await tenant.rule("app", source, {"regex": {"pattern": started, "columns": columns}})
        first = await tenant.extract("app")
        log.write_text(text)
        second = await tenant.extract("app")
    long_ago = time.time() - 3600
    os.utime(log, (long_ago, long_ago))
    async with house(home, "data") as running:
        tenant = Tenant(running)
        third, nothing = await tenant.extract("app"), await tenant.extract("app")
        found = [f"{row['at']} {row['text']}" for row in await tenant.rows("app")]
        other = await code_of(Tenant(running, "other").begin("app"))

    assert found == truth.records
    assert other is Code.NOT_FOUND
    assert (second.records_read, third.records_read, nothing.records_read) == (300 - first.records_read - 1, 1, 0)


async def test_lines_without_a_start_are_quarantined_and_discovery_says_how_to_read_records(home: Path) -> None:
    truth = planted(corpus(SYSTEMS["parcels"], 3, 300).lines, seed=7)
    places.write(home, "app.log", "".join(f"{line}\n" for line in ["  from before", *truth.lines, "last"]))
    described = {"pattern": "app.log", "format": "FILE_FORMAT_TEXT", "record_start": "[0-9]{4}-"}
    async with house(home, "data") as running:
        tenant, rules = Tenant(running), running.stub(RulesStub, "data")
        sources = running.stub(SourcesStub, "data")
        for name, files in {"lines": {**described, "record_start": ""}, "records": described}.items():
            asked = ParseDict({"source": name, "files": files}, sources_pb2.CreateSourceRequest())
            await sources.CreateSource(asked)
        plain = await rules.DiscoverRules(rules_pb2.DiscoverRulesRequest(source="lines"))
        best = (await rules.DiscoverRules(rules_pb2.DiscoverRulesRequest(source="records"))).proposals[0]
        said = rules_pb2.CreateRuleRequest(rule="best", source="records", definition=best.definition)
        await rules.CreateRule(said)
        await rules.ActivateRule(rules_pb2.ActivateRuleRequest(rule="best", version=1))
        trial = await rules.TestRule(rules_pb2.TestRuleRequest(rule="best", records=1000))
        run = await tenant.extract("best")
        aside = await tenant.quarantine("best", run.data_set_version)
        wrong = {"source": "wrong", "files": {**described, "record_start": "(a"}}
        asked = ParseDict(wrong, sources_pb2.CreateSourceRequest())
        failure = await refused(sources.CreateSource(asked))

    assert not plain.suggested.record_start  # its first line is the rest of another record
    assert {"trace", "more"} & {column.name for column in best.definition.regex.columns}
    assert trial.accepted == best.records
    assert ("  from before", NO_START, "app.log:1") in aside
    assert failure.code is Code.PATTERN_UNSUPPORTED
    assert failure.detail.startswith("record_start: ")
