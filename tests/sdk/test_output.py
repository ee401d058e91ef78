"""What people and programs read of the command line."""

import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass import Failure, Violation
from aimass.cli import output, tables
from aimass.cli.output import Format, exit_code, explain, show
from aimass.cli.tables import table
from aimass.v1 import datasets_pb2, logs_pb2, models_pb2, quotas_pb2, schema_pb2


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(tables.CONSOLE, "width", 200)


def models(*names: str, **more: Any) -> models_pb2.ListModelsResponse:
    return models_pb2.ListModelsResponse(models=[models_pb2.Model(model=name) for name in names], **more)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure("unavailable", "away"), 3),
        (Failure("deadline_exceeded", "late"), 3),
        (Failure("unavailable", "overloaded", status=503), 1),
        (Failure("deadline_exceeded", "slow", status=504), 1),
        (Failure("no_key", "none"), 4),
        (Failure("unauthenticated", "who", status=401), 4),
        (Failure("token_invalid", "who", status=401), 4),
        (Failure("forbidden", "no", status=403), 4),
        (Failure("not_found", "none", status=404), 1),
        (Failure("internal", "bug", status=500), 1),
    ],
)
def test_an_exit_code_says_what_kind_of_failure_it_was(failure: Failure, code: int) -> None:
    assert exit_code(failure) == code


def test_a_failure_says_what_where_and_what_may_help(capsys: pytest.CaptureFixture[str]) -> None:
    explain(Failure("etag_mismatch", "late changed", violations=[Violation("/a", "must be set")], request_id="r-1"))
    printed = capsys.readouterr().err

    assert "etag_mismatch: late changed" in printed
    assert "/a must be set" in printed
    assert "request r-1" in printed
    assert "it has changed since you read it" in printed


@given(st.text(max_size=20))
def test_what_a_server_says_is_no_markup(text: str) -> None:
    with tables.CONSOLE.capture() as seen:
        explain(Failure("invalid_value", f"[bold]{text}[/nothing]", violations=[Violation(f"[{text}]", "[/red]")]))

    assert "[/nothing]" in seen.get()
    assert "[/red]" in seen.get()


def test_a_program_gets_all_of_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    show(models("late", next_page_token="t"), Format.JSON)
    found = orjson.loads(capsys.readouterr().out)

    assert found["next_page_token"] == "t"
    assert found["models"][0]["description"] == "", "defaults are printed"


def test_people_get_a_table_without_empty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    show(models("late", "early"), Format.TABLE)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]

    assert lines == [["model"], ["late"], ["early"]]


def test_there_is_more_and_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    show(models("late", next_page_token="t0k"), Format.TABLE)

    assert "more: --page-token t0k, or --all" in capsys.readouterr().err


def test_nothing_is_said_to_be_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    show(models(), Format.TABLE)
    printed = capsys.readouterr()

    assert (printed.out, printed.err.strip()) == ("", "no models")


def test_one_thing_is_names_and_values_without_what_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    show(models_pb2.Model(model="late", latest_version=3), Format.TABLE)
    printed = capsys.readouterr().out

    assert [line.split() for line in printed.splitlines()] == [["model", "late"], ["latest_version", "3"]]


@pytest.mark.parametrize("value", ["[red]late[/]", "[/]", "[link=http://x]y[/link]", "a[1]"])
def test_what_is_in_a_cell_is_no_markup(capsys: pytest.CaptureFixture[str], value: str) -> None:
    show(models(value), Format.TABLE)

    assert value in capsys.readouterr().out


@pytest.mark.parametrize(("length", "shown"), [(60, 60), (61, 60), (5000, 60)])
def test_a_long_value_is_cut_in_a_table(capsys: pytest.CaptureFixture[str], length: int, shown: int) -> None:
    table("things", [{"text": "x" * length}])
    cell = capsys.readouterr().out.splitlines()[-1].strip()

    assert len(cell) == shown
    assert cell.endswith("…") == (length > 60)


def test_rows_may_have_different_names(capsys: pytest.CaptureFixture[str]) -> None:
    table("things", [{"a": 1, "b": None}, {"c": [1, 2], "b": {}}, {"a": True}])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]

    assert lines == [["a", "c"], ["1"], ["[1,2]"], ["true"]]


def test_a_stream_is_one_line_for_each_message(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b\nc"):
        output.line(models_pb2.Model(model=name))
    lines = capsys.readouterr().out.splitlines()

    assert [orjson.loads(line)["model"] for line in lines] == ["a", "b\nc"]


def test_plain_values_are_json_that_ends_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.as_json({"a": [1]})
    printed = capsys.readouterr().out

    assert orjson.loads(printed) == {"a": [1]}
    assert printed.endswith("}\n")


def test_what_somebody_has_written_gives_the_terminal_no_orders(capsys: pytest.CaptureFixture[str]) -> None:
    orders = "\x1b]0;title\x07\x1b[2J\x9b1m\r\x7f"
    table("things", [{"text": orders, f"[red]{orders}": "one\ntwo"}])
    show(models_pb2.Model(model="late", description=orders), Format.TABLE)
    with tables.CONSOLE.capture() as seen:
        explain(Failure("invalid_value", orders, violations=[Violation(orders, orders)], request_id=orders))
    printed = capsys.readouterr().out

    assert not set(printed + seen.get()) & (set(orders) - set("]0;title[2J1m"))
    assert (printed.count(r"\x1b]0;title\x07\x1b[2J\x9b1m\x0d\x7f"), seen.get().count(r"\x1b]0;title")) == (3, 4)
    assert [line.split()[-1] for line in printed.splitlines()[1:3]] == ["one", "two"]


def listed(**more: Any) -> quotas_pb2.ListQuotasResponse:
    quota = quotas_pb2.Quota(quota="kept", tenant="default", subject="project:default", amount=5, etag="1", **more)
    quota.create_time.FromJsonString("2026-01-02T03:04:05.678901Z")
    quota.update_time.FromJsonString("2026-01-02T03:04:06Z")
    return quotas_pb2.ListQuotasResponse(quotas=[quota])


def test_people_read_words_and_seconds_where_programs_get_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(meter=quotas_pb2.METER_STORAGE_MIB_HOURS, period=quotas_pb2.PERIOD_MONTH)
    show(found, Format.TABLE)
    show(found.quotas[0], Format.TABLE)
    people = capsys.readouterr().out
    show(found, Format.JSON)
    programs = orjson.loads(capsys.readouterr().out)["quotas"][0]

    assert people.count(" storage_mib_hours ") == people.count(" month ") == 2
    assert people.count("2026-01-02T03:04:05Z") == people.count("2026-01-02T03:04:06Z") == 2
    assert (programs["meter"], programs["period"]) == ("METER_STORAGE_MIB_HOURS", "PERIOD_MONTH")
    assert programs["create_time"] == "2026-01-02T03:04:05.678901Z"


def test_what_is_nested_is_read_without_braces(capsys: pytest.CaptureFixture[str]) -> None:
    used = {"requests": "2", "rows": "0", "late": True, "label": None}
    table("things", [{"used": used, "none": {"rows": "0"}, "may": ["models.get", "*"], "deep": {"a": {"b": 1}}}])
    found = [re.split("  +", line.strip()) for line in capsys.readouterr().out.splitlines()]

    assert found == [["used", "may", "deep"], ["requests=2, late=true", "models.get, *", 'a={"b":1}']]


@pytest.mark.parametrize(
    ("width", "left_out"),
    [(200, ()), (80, ("etag", "update_time")), (30, ("etag", "update_time", "create_time", "tenant"))],
)
def test_what_has_no_room_on_a_screen_is_left_out_and_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, left_out: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    show(listed(), Format.TABLE)
    printed = capsys.readouterr()
    heads = printed.out.splitlines()[0].split()

    assert not set(left_out) & set(heads)
    assert {"quota", "subject", "amount"} <= set(heads)
    assert "…" not in printed.out
    assert printed.err.strip() == (f"no room for {', '.join(left_out)}: -o json has all" if left_out else "")


def test_a_line_for_another_program_is_not_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS")
    table("things", [{f"name{number}": "x" * 70 for number in range(10)}])

    show(models_pb2.Model(model="late", description="x" * 5000), Format.TABLE)
    lines = capsys.readouterr().out.splitlines()

    assert [line.count("x") for line in lines[1:]] == [700, 0, 5000]
    assert all(line == line.rstrip() for line in lines), "nothing is filled up either"


def test_one_long_value_makes_the_lines_of_no_others_longer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS")
    table("things", [{"text": "x" * 5000, "next": "日本"}, {"text": "one", "next": "a"}])
    printed = capsys.readouterr().out.splitlines()

    assert printed == [f"text{' ' * 58}next", f"{'x' * 5000}  日本", f"one{' ' * 59}a"]


def test_a_prediction_of_nothing_but_zeros_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    table("predictions", [{"label": 0, "late": False}, {"label": 0, "late": False}], whole=True)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]

    assert lines == [["label", "late"], ["0", "false"], ["0", "false"]]


def searched(*names: str, text: str = "") -> logs_pb2.SearchLogsResponse:
    records = list[logs_pb2.LogRecord]()
    for number, name in enumerate(names):
        found = logs_pb2.LogRecord(kind="event", severity="INFO", service="data", name=name, text=name + text)
        found.record = found.request_id = f"{number:08x}-7d1e-7aaa-bbbb-0123456789ab"
        found.trace_id, found.span_id = "0af7" * 8, f"{number:016x}"
        found.attributes["principal"] = "key:abcd1234"
        found.time.FromJsonString(f"2026-01-02T03:04:{number:02}Z")
        records.append(found)
    return logs_pb2.SearchLogsResponse(records=records)


def test_a_search_can_be_read_on_a_narrow_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show(searched("SourceChanged", "RuleChanged", text=" of towns, as somebody wanted it who may"), Format.TABLE)
    printed = capsys.readouterr()
    lines = printed.out.splitlines()

    assert lines[0].split() == ["time", "name", "text"]
    assert all(len(line) <= 80 for line in lines)
    assert "…" not in printed.out
    assert "2026-01-02T03:04:01Z" in printed.out
    assert (
        "no room for record, span_id, trace_id, attributes, severity=INFO, kind=event, service=data, request_id:"
        in printed.err
    )


def test_an_id_is_whole_or_not_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for width in range(40, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        show(searched("SourceChanged", "RuleChanged"), Format.TABLE)
        lines = capsys.readouterr().out.splitlines()

        assert len(lines) == 3, "no line is folded"
        assert all(len(line) <= width for line in lines)


def test_a_value_for_another_program_is_whole_and_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS")
    table("things", [{"text": "x" * 500, "lines": "a\nb"}])

    assert capsys.readouterr().out.splitlines()[1].split() == ["x" * 500, "a", "b"]


def test_what_has_a_list_beside_other_values_is_both(capsys: pytest.CaptureFixture[str]) -> None:
    buckets = [logs_pb2.CountBucket(count=3, value="1"), logs_pb2.CountBucket(count=4, value="2")]
    show(logs_pb2.CountLogsResponse(total=7, buckets=buckets), Format.TABLE)
    show(models_pb2.ModelVersion(model="late", version=2), Format.TABLE)
    printed = capsys.readouterr()

    found = [["total", "7"], ["count", "value"], ["3", "1"], ["4", "2"], ["model", "late"], ["version", "2"]]
    assert [line.split() for line in printed.out.splitlines()] == found
    assert printed.err == "", "a thing without files is no empty list"


def test_a_count_of_nothing_is_said_to_be_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    show(logs_pb2.CountLogsResponse(), Format.TABLE)
    printed = capsys.readouterr()

    assert (printed.out, printed.err.strip()) == ("", "no buckets")


def test_rows_are_read_in_the_order_of_their_columns_and_whole_numbers_as_such(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = datasets_pb2.QueryDataSetsResponse()
    for name, kind in {"van": schema_pb2.COLUMN_TYPE_STRING, "n": schema_pb2.COLUMN_TYPE_INT64}.items():
        answer.schema.columns.add(name=name, type=kind)
    answer.rows.add().update({"n": 438, "van": "red"})
    answer.rows.add().update({"n": 0.5})
    show(answer, Format.TABLE)

    found = [["schema", "van", "string,", "n", "int64"], ["van", "n"], ["red", "438"], ["0.5"]]
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == found


@pytest.mark.parametrize(
    ("value", "said"), [(0.5102869999973336, "0.510287"), (12345678.25, "12345678.25"), (4, "4.0")]
)
def test_what_was_measured_is_read_with_six_digits(capsys: pytest.CaptureFixture[str], value: float, said: str) -> None:
    show(logs_pb2.SearchLogsResponse(records=[logs_pb2.LogRecord(name="a", duration_ms=value)]), Format.TABLE)

    assert capsys.readouterr().out.splitlines()[1].split() == ["a", said]
