"""Rule sets over the log of an office, for tests."""

from typing import Any

from google.protobuf.json_format import ParseDict

from aimass.v1 import rule_sets_pb2 as pb

LINES = """parcel P-1 weighed 120 g
ada signed in
door opened
parcel P-2 weighed 99999999999999999999 g
parcel P-3 weighed 7 g
bo signed in
!
parcel P-4 weighed 15 g
"""
INT64, STRING = "COLUMN_TYPE_INT64", "COLUMN_TYPE_STRING"
WEIGHED: dict[str, Any] = {
    "regex": {
        "pattern": r"parcel (?P<parcel>\S+) weighed (?P<grams>\d+) g",
        "columns": [{"name": "parcel", "type": STRING}, {"name": "grams", "type": INT64, "required": True}],
    }
}
LOGIN: dict[str, Any] = {
    "regex": {"pattern": r"(?P<who>\w+) signed in", "columns": [{"name": "who", "type": STRING}]},
}
# Takes every line that begins with a letter.
ANY: dict[str, Any] = {"regex": {"pattern": r"(?P<text>\w.*)", "columns": [{"name": "text", "type": STRING}]}}
SOURCES: dict[str, Any] = {
    "office": {"files": {"pattern": "office.log", "format": "FILE_FORMAT_TEXT"}},
    "planes": {"files": {"pattern": "planes.jsonl", "format": "FILE_FORMAT_JSON_LINES"}},
    "flights": {"sql": {"url": "sqlite:///flights.db", "table": "flights", "cursor": "id"}},
}


def wanted(rule: str, definition: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A rule that a set makes; a weighing if nothing else is said."""
    return {"rule": rule, "definition": definition or WEIGHED, **more}


def rule_set(name: str, *rules: dict[str, Any], source: str = "office", **more: Any) -> pb.CreateRuleSetRequest:
    """A set of rules as they are said."""
    request = {"rule_set": name, "source": source, "rules": list(rules), **more}
    return ParseDict(request, pb.CreateRuleSetRequest())
