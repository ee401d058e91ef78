"""Rule sets: made, changed, activated and tested as one."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from aimass.v1 import rule_sets_pb2 as pb
from aimass.v1 import rules_pb2
from aimass.v1.data_events_pb2 import RuleChanged, RuleSetChanged
from aimass.v1.rule_sets_pb2_grpc import RuleSetsStub
from aimass.v1.rules_pb2_grpc import RulesStub
from services.kit.errors import Code
from tests.data import places
from tests.data.rule_sets import ANY, LINES, LOGIN, SOURCES, WEIGHED, rule_set, wanted
from tests.data.sourced import sourced
from tests.support.house import House
from tests.support.refused import code_of, refused


@pytest.fixture
async def running(home: Path) -> AsyncIterator[House]:
    places.flights(home)
    places.write(home, "office.log", LINES)
    places.write(home, "planes.jsonl", '{"tail": "N1"}\n{"wings": 2}\n')
    async with sourced(home, SOURCES) as running:
        yield running


@pytest.fixture
def sets(running: House) -> Any:
    return running.stub(RuleSetsStub, "data")


@pytest.fixture
def rules(running: House) -> Any:
    return running.stub(RulesStub, "data")


async def rule(rules: Any, name: str, what: dict[str, Any] = WEIGHED, source: str = "office") -> rules_pb2.Rule:
    definition = ParseDict(what, rules_pb2.RuleDefinition())
    made: rules_pb2.Rule = await rules.CreateRule(
        rules_pb2.CreateRuleRequest(rule=name, source=source, definition=definition)
    )
    return made


async def get(rules: Any, name: str) -> rules_pb2.Rule:
    found: rules_pb2.Rule = await rules.GetRule(rules_pb2.GetRuleRequest(rule=name))
    return found


def versions(found: pb.RuleSet) -> list[tuple[str, int]]:
    return [(member.rule, member.version) for member in found.rules]


async def test_a_set_is_read_back_as_it_was_said_with_its_rules_and_told(running: House, sets: Any, rules: Any) -> None:
    await rule(rules, "weighed")
    made = await sets.CreateRuleSet(rule_set("office", {"rule": "weighed"}, wanted("logins", LOGIN, data_set="people")))

    assert made == await sets.GetRuleSet(pb.GetRuleSetRequest(rule_set="office"))
    assert [(m.rule, m.version, m.data_set) for m in made.rules] == [("weighed", 1, "weighed"), ("logins", 1, "people")]
    assert (made.match, made.data_set, made.active_version) == (pb.RULE_MATCH_FIRST, "office", 0)
    assert list((await sets.ListRuleSets(pb.ListRuleSetsRequest())).rule_sets) == [made]
    assert {(await get(rules, name)).rule_set for name in ("weighed", "logins")} == {"office"}
    (told,) = await running.heard(RuleSetChanged)
    assert (told.rule_set, told.generation) == (made, 1)
    assert [(e.rule.rule, e.rule.rule_set) for e in await running.heard(RuleChanged, 3)][1:] == [
        ("weighed", "office"),
        ("logins", "office"),
    ]


async def test_a_set_is_activated_as_one_and_its_rules_with_it(sets: Any, rules: Any) -> None:
    await sets.CreateRuleSet(rule_set("office", wanted("weighed"), wanted("logins", LOGIN)))
    await sets.ActivateRuleSet(pb.ActivateRuleSetRequest(rule_set="office", version=1))
    assert [(await get(rules, name)).active_version for name in ("weighed", "logins")] == [1, 1]

    request = pb.CreateRuleSetVersionRequest(rule_set="office")
    said = (wanted("weighed"), wanted("rest", ANY), wanted("logins", LOGIN | {"regex": LOGIN["regex"] | EXTRA}))
    for one in said:
        ParseDict(one, request.rules.add())
    second = await sets.CreateRuleSetVersion(request)
    # The definition of `weighed` is the one that it has: it needs no version.
    assert versions(second) == [("weighed", 1), ("rest", 1), ("logins", 2)]
    assert (second.active_version, (await get(rules, "logins")).active_version) == (1, 1)

    await sets.ActivateRuleSet(pb.ActivateRuleSetRequest(rule_set="office", version=2))
    assert [(await get(rules, name)).active_version for name in ("weighed", "logins", "rest")] == [1, 2, 1]
    await sets.ActivateRuleSet(pb.ActivateRuleSetRequest(rule_set="office", version=1))
    assert [(await get(rules, name)).active_version for name in ("weighed", "logins", "rest")] == [1, 1, 0]
    assert versions(await sets.GetRuleSet(pb.GetRuleSetRequest(rule_set="office", version=1))) == [
        ("weighed", 1),
        ("logins", 1),
    ]


EXTRA = {"columns": [{"name": "who", "type": "COLUMN_TYPE_STRING", "required": True}]}


async def test_a_rule_of_a_set_does_nothing_by_itself(sets: Any, rules: Any) -> None:
    await sets.CreateRuleSet(rule_set("office", wanted("weighed")))
    failure = await refused(rules.ActivateRule(rules_pb2.ActivateRuleRequest(rule="weighed", version=1)))

    assert failure.code is Code.FAILED_PRECONDITION
    assert failure.detail == "weighed belongs to the rule set office and runs in that only"


async def test_a_deleted_set_has_no_active_rules_until_it_is_undeleted(sets: Any, rules: Any) -> None:
    await sets.CreateRuleSet(rule_set("office", wanted("weighed")))
    active = await sets.ActivateRuleSet(pb.ActivateRuleSetRequest(rule_set="office", version=1))
    metadata = (("if-match", active.etag),)
    await sets.DeleteRuleSet(pb.DeleteRuleSetRequest(rule_set="office"), metadata=metadata)

    assert (await get(rules, "weighed")).active_version == 0
    assert await code_of(sets.GetRuleSet(pb.GetRuleSetRequest(rule_set="office"))) is Code.NOT_FOUND
    back = await sets.UndeleteRuleSet(pb.UndeleteRuleSetRequest(rule_set="office"))
    assert (back.active_version, (await get(rules, "weighed")).active_version) == (1, 1)


async def test_what_cannot_be_a_set_is_refused_and_leaves_nothing(running: House, sets: Any, rules: Any) -> None:
    await rule(rules, "taken")
    await rule(rules, "elsewhere", {"json": {"columns": [{"name": "tail", "type": "COLUMN_TYPE_STRING"}]}}, "planes")
    await sets.CreateRuleSet(rule_set("other", wanted("bound")))
    broken = wanted("broken", {"regex": WEIGHED["regex"] | {"pattern": "("}})
    cases: list[tuple[tuple[dict[str, Any], ...], Code, str]] = [
        ((wanted("new"), {"rule": "new"}), Code.INVALID_VALUE, "the rule new is there twice"),
        ((wanted("new"), {"rule": "none"}), Code.NOT_FOUND, "there is no rule none"),
        ((wanted("new"), {"rule": "taken", "version": 7}), Code.UNKNOWN_VERSION, "taken has no version 7"),
        ((wanted("new"), {"rule": "elsewhere"}), Code.INVALID_VALUE, "is for the source planes, not for office"),
        ((wanted("new"), {"rule": "bound"}), Code.FAILED_PRECONDITION, "belongs to the rule set other"),
        ((wanted("new"), broken), Code.PATTERN_UNSUPPORTED, "rules.1.definition: "),
        ((wanted("new", version=1),), Code.INVALID_VALUE, "rules.0.version must not be set together with a definition"),
        ((wanted("new", data_set="taken"),), Code.ALREADY_EXISTS, "is written by the rule taken"),
        ((wanted("new", data_set="office"),), Code.ALREADY_EXISTS, "has the reports of the rule set office"),
        ((wanted("new", data_set="other"),), Code.ALREADY_EXISTS, "has the reports of the rule set other"),
        (({"rule": "taken", "data_set": "new"},), Code.INVALID_VALUE, "writes the data set taken, not new"),
    ]
    for said, code, text in cases:
        failure = await refused(sets.CreateRuleSet(rule_set("office", *said)))
        assert (failure.code, text in failure.detail) == (code, True), (said, failure)
    assert await code_of(sets.GetRuleSet(pb.GetRuleSetRequest(rule_set="office"))) is Code.NOT_FOUND
    assert await code_of(get(rules, "new")) is Code.NOT_FOUND
    assert (await get(rules, "taken")).rule_set == ""
    assert len(await running.heard(RuleSetChanged)) == 1


async def test_a_set_needs_rules_and_a_source_of_files(sets: Any) -> None:
    sql = wanted("new", {"sql": {"sql": "SELECT id FROM flights"}})
    failure = await refused(sets.CreateRuleSet(rule_set("flights", sql, source="flights")))
    assert (failure.code, "needs a source of files" in failure.detail) == (Code.INVALID_VALUE, True)
    assert await code_of(sets.CreateRuleSet(rule_set("office"))) is Code.INVALID_VALUE
    assert await code_of(sets.CreateRuleSet(rule_set("office", wanted("new"), source="none"))) is Code.NOT_FOUND
    assert await code_of(sets.CreateRuleSet(rule_set("office", wanted("new"), match=7))) is Code.INVALID_VALUE


async def test_data_sets_of_reports_and_of_rules_are_not_shared(sets: Any, rules: Any) -> None:
    await rule(rules, "weighed")
    await sets.CreateRuleSet(rule_set("office", wanted("logins", LOGIN), data_set="reports"))

    assert await code_of(rule(rules, "reports")) is Code.ALREADY_EXISTS
    for data_set in ("weighed", "reports"):
        failure = await refused(sets.CreateRuleSet(rule_set("again", wanted("new"), data_set=data_set)))
        assert failure.code is Code.ALREADY_EXISTS
    failure = await refused(sets.CreateRuleSet(rule_set("office", wanted("new"), data_set="more")))
    assert failure.detail == "the rule set office exists already"


async def test_a_deleted_rule_keeps_its_set_from_being_activated(sets: Any, rules: Any) -> None:
    await sets.CreateRuleSet(rule_set("office", wanted("weighed"), wanted("logins", LOGIN)))
    etag = (await get(rules, "logins")).etag
    await rules.DeleteRule(rules_pb2.DeleteRuleRequest(rule="logins"), metadata=(("if-match", etag),))
    activate = pb.ActivateRuleSetRequest(rule_set="office", version=1)
    failure = await refused(sets.ActivateRuleSet(activate))

    assert failure.code is Code.FAILED_PRECONDITION
    assert "the rule logins is deleted: undelete it" in failure.detail
    assert (await get(rules, "weighed")).active_version == 0
    await rules.UndeleteRule(rules_pb2.UndeleteRuleRequest(rule="logins"))
    assert (await sets.ActivateRuleSet(activate)).active_version == 1


async def test_activation_needs_a_version_and_keeps_to_an_etag(sets: Any) -> None:
    await sets.CreateRuleSet(rule_set("office", wanted("weighed")))
    for version, etag, code in ((2, "", Code.UNKNOWN_VERSION), (1, "7", Code.ETAG_MISMATCH)):
        request = pb.ActivateRuleSetRequest(rule_set="office", version=version, etag=etag)
        assert await code_of(sets.ActivateRuleSet(request)) is code


@pytest.mark.parametrize(
    ("match", "taken"), [("RULE_MATCH_FIRST", {"weighed": 3, "logins": 2, "rest": 2}), ("RULE_MATCH_ALL", None)]
)
async def test_a_test_says_what_each_rule_takes_and_which_overlap(
    sets: Any, match: str, taken: dict[str, int] | None
) -> None:
    await sets.CreateRuleSet(
        rule_set("office", wanted("weighed"), wanted("logins", LOGIN), wanted("rest", ANY), match=match)
    )
    trial = await sets.TestRuleSet(pb.TestRuleSetRequest(rule_set="office"))
    found = {one.rule: one for one in trial.rules}

    accepted = {"weighed": 3, "logins": 2, "rest": 7}
    assert (trial.tried, trial.accepted, trial.coverage, trial.overlapping) == (8, 7, 7 / 8, 5)
    assert {name: one.accepted for name, one in found.items()} == accepted
    assert {name: one.taken for name, one in found.items()} == taken or accepted
    assert found["weighed"].coverage == 3 / 8
    assert MessageToDict(found["weighed"].rows[0]) == {"parcel": "P-1", "grams": 120.0}
    assert [(o.first, o.second, o.records, o.examples[0]) for o in trial.overlaps] == [
        ("weighed", "rest", 3, "parcel P-1 weighed 120 g"),
        ("logins", "rest", 2, "ada signed in"),
    ]
    # It looks like a weighing and is none.
    assert [(r.record, r.reason) for r in found["weighed"].refused] == [
        ("parcel P-2 weighed 99999999999999999999 g", "grams does not fit int64")
    ]
    assert found["weighed"].refusals == 1
    assert [(r.record, r.reason) for r in trial.refused] == [("!", "no rule matches")]


async def test_a_test_of_documents_names_the_first_rule_that_refused(sets: Any) -> None:
    def of(name: str) -> dict[str, Any]:
        column = {"name": name, "type": "COLUMN_TYPE_STRING", "required": True}
        return wanted(name, {"json": {"columns": [column]}})

    await sets.CreateRuleSet(rule_set("planes", of("tail"), of("engines"), source="planes"))
    trial = await sets.TestRuleSet(pb.TestRuleSetRequest(rule_set="planes"))

    assert [(one.rule, one.accepted, one.refusals) for one in trial.rules] == [("tail", 1, 1), ("engines", 0, 2)]
    assert [(r.record, r.reason) for r in trial.refused] == [('{"wings": 2}', "tail: tail is missing")]
    assert await code_of(sets.TestRuleSet(pb.TestRuleSetRequest(rule_set="planes", records=10_001))) is (
        Code.INVALID_VALUE
    )
