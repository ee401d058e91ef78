import json
from collections.abc import Sequence
from typing import Any

import pytest

from services.data.reading.extractor import for_lines
from services.data.reading.kinds import (
    Compiled,
    FileRule,
    JsonRule,
    RegexRule,
    RuleColumn,
    RuleDefinition,
    rule_from_json,
    to_json,
)
from services.data.repairs.work import main
from services.data.schema import ColumnType
from services.kit.child import Child, Json

USERS = ["anna", "boris", "chen", "dilek", "emma", "farid"]
COLUMNS = (
    RuleColumn("at", "at", ColumnType.TIMESTAMP, True),
    RuleColumn("user", "user", ColumnType.STRING, True),
    RuleColumn("ms", "took", ColumnType.INT64, True),
)
RULE = RegexRule(r"(?P<at>\S+) INFO user=(?P<user>\S+) took=(?P<took>[0-9]+)ms", COLUMNS)
VALUES: dict[str, list[Any]] = {
    "at": [f"2026-01-02T10:00:{n:02}Z" for n in range(60)],
    "user": [USERS[n % 6] for n in range(60)],
    "ms": [str(n * 7 % 400) for n in range(60)],
}


class Silent(Child):
    def __init__(self) -> None:
        pass


def found(rule: RuleDefinition, records: Sequence[str], values: dict[str, list[Any]] | None = None) -> Json:
    return main({"definition": to_json(rule), "records": list(records), "values": values or VALUES}, Silent())


def at(n: int) -> str:
    return f"2026-02-03T11:{n % 60:02}:00Z"


@pytest.mark.parametrize(
    "form",
    [
        "{at} INFO took=[{ms} ms] user={user}",
        "{at} [INFO] {user} was served in {ms} ms",
        "INFO {at} request of user {user} took {ms}ms on node-7",
        "{at}|INFO|duration={ms}|user={user}",
    ],
)
def test_lines_that_are_written_in_another_way_are_read_again(form: str) -> None:
    lines = [form.format(at=at(n), user=USERS[n % 6], ms=n * 5 % 400) for n in range(120)]
    said = found(RULE, lines)

    assert (said["taken"], said["tested"], said["right"]) == (120, 60, 60)
    rule = rule_from_json(said["definition"])
    assert isinstance(rule, RegexRule)
    assert (rule.pattern, rule.columns) == (RULE.pattern, RULE.columns)
    ready = for_lines(Compiled(rule.columns, pattern=rule.pattern, more_patterns=rule.more_patterns))
    row = ready.row(lines[7])
    assert isinstance(row, tuple)
    assert (str(row[0]), row[1:]) == ("2026-02-03 11:07:00+00:00", ("boris", 35))
    # What was read before is read as before.
    assert isinstance(ready.row("2026-01-02T10:00:00Z INFO user=anna took=3ms"), tuple)


def test_lines_of_other_kinds_are_left_alone() -> None:
    lines = [f"{at(n)} WARN disk {n % 4} is full" for n in range(60)]

    assert found(RULE, lines)["definition"] is None
    both = [line for n in range(60) for line in (lines[n], f"{at(n)} INFO {USERS[n % 6]} took {n} ms")]
    assert found(RULE, both)["taken"] == 60


def test_a_column_that_is_not_required_may_be_gone() -> None:
    columns = (*COLUMNS[:2], RuleColumn("ms", "took", ColumnType.INT64))
    said = found(RegexRule(RULE.pattern, columns), [f"{at(n)} DONE user {USERS[n % 6]}" for n in range(60)])

    assert said["taken"] == 60
    assert {column["column"] for column in said["columns"]} == {"at", "user"}


def test_values_of_another_type_are_no_repair() -> None:
    said = found(RULE, [f"{at(n)} INFO user={USERS[n % 6]} took={USERS[n % 5]}" for n in range(60)])

    assert said["definition"] is None
    assert "required" in said["reason"]


def test_values_that_have_moved_in_documents_are_found() -> None:
    rule = JsonRule((RuleColumn("user", "$.user", ColumnType.STRING, True), RuleColumn("ms", "$.ms", ColumnType.INT64)))
    moved = [json.dumps({"who": {"user_name": USERS[n % 6]}, "host": "vega", "took_ms": n % 300}) for n in range(80)]
    said = found(rule, moved)

    assert (said["taken"], said["right"]) == (80, 40)
    sources = {column["name"]: column["source"] for column in said["definition"]["columns"]}
    assert sources == {"user": "$.who.user_name", "ms": "$.took_ms"}


@pytest.mark.parametrize("records", [[], [""], ["{"], ["[]"], ["\0"], ["x" * 8000] * 3, ["null", "1", "{}"]])
@pytest.mark.parametrize("rule", [RULE, JsonRule(COLUMNS[:1]), FileRule(COLUMNS)])
def test_anything_may_be_refused(rule: RuleDefinition, records: list[str]) -> None:
    said = found(rule, records)

    assert (said["definition"], said["records"], bool(said["reason"])) == (None, len(records), True)
