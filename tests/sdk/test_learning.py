"""`aimass learn`: what is found becomes a rule set, under names that can be names."""

import json
from pathlib import Path
from typing import Any

import pytest

from aimass import Failure
from tests.sdk.conftest import Door
from tests.sdk.test_cli import alone, run  # noqa: F401  (a fixture that every test here takes by itself)

DEFINITION = {"regex": {"pattern": "(?P<a>.*)", "columns": [{"name": "a", "type": "COLUMN_TYPE_STRING"}]}}


def proposal(rule: str) -> dict[str, Any]:
    return {"rule": rule, "definition": DEFINITION, "records": "3", "coverage": 0.75, "reason": "3 lines of the form a"}


def found(*rules: str) -> dict[str, Any]:
    return {"sampled": "4", "proposals": [proposal(rule) for rule in rules], "unexplained": "1"}


def test_what_is_found_is_created_as_a_rule_set_in_one_call(door: Door) -> None:
    door.say(found("parcel", "courier")).say({"rule_set": "office", "version": 1})
    shown = run(door, "learn", "office-log", "--name", "office", "--match", "all", "--records", "50")

    assert shown.exit_code == 0, shown.output
    discovered, created = door.asked
    assert discovered.json == {"source": "office-log", "records": 50}
    assert created.path == "/v1/rule-sets"
    assert created.json == {
        "rule_set": "office",
        "source": "office-log",
        "match": "RULE_MATCH_ALL",
        "rules": [{"rule": f"office-{rule}", "definition": DEFINITION} for rule in ("parcel", "courier")],
    }
    assert "office-parcel" in shown.stdout
    assert "no rule takes 1 of 4 records" in shown.stderr


def test_what_was_found_before_is_read_from_its_file_and_can_be_activated_at_once(door: Door) -> None:
    Path("found.json").write_text(json.dumps(found("parcel")))
    door.say({"rule_set": "office", "version": 1}).say({"rule_set": "office", "active_version": 1})
    shown = run(door, "learn", "office", "--found", "found.json", "--activate", "-o", "json")

    assert json.loads(shown.stdout)["active_version"] == 1
    assert [asked.path for asked in door.asked] == ["/v1/rule-sets", "/v1/rule-sets/office:activate"]


def test_long_names_are_cut_and_stay_apart(door: Door) -> None:
    name = "n" * 60
    door.say(found("parcel", "pallet", "parts")).say({"rule_set": name, "version": 1})
    assert run(door, "learn", name).exit_code == 0
    rules = [rule["rule"] for rule in door.asked[1].json["rules"]]

    assert rules == [f"{name}-pa", f"{name}--2", f"{name}--3"]


@pytest.mark.parametrize("text", ['{"proposals": [{"nothing": 1}]}', "[1]", "{"])
def test_a_file_with_something_else_is_refused(door: Door, text: str) -> None:
    Path("found.json").write_text(text)
    failure = run(door, "learn", "office", "--found", "found.json").exception
    assert isinstance(failure, Failure)
    assert failure.code == "invalid_value"
    assert not door.asked


def test_nothing_found_is_no_rule_set(door: Door) -> None:
    door.say(found())
    failure = run(door, "learn", "office").exception
    assert isinstance(failure, Failure)
    assert "no rules were found for office" in str(failure)
    assert len(door.asked) == 1
