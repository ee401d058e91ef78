import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from aimass import contract
from aimass import door as doors
from aimass.cli import generated, main
from aimass.cli.main import build
from tests.sdk.conftest import Door


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No login and no installation of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("AIMASS_", "XDG_CONFIG"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "160")


def run(door: Door, *arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(build(), list(arguments), input=given, env={"AIMASS_URL": door.url, "AIMASS_KEY": "k"})


def exits(arguments: Sequence[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def test_every_method_of_the_contract_is_a_command_with_its_own_name() -> None:
    for service, methods in contract.services().items():
        names = [generated.command_name(method) for method in methods.values()]
        assert len(set(names)) == len(names), service
        for method in methods.values():
            assert generated.command(method).__doc__


@pytest.mark.parametrize(
    ("service", "method", "name"),
    [
        ("models", "get_model_version", "get-version"),
        ("policies", "create_policy_version", "create-version"),
        ("prices", "list_price_lists", "list-price-lists"),
        ("access", "create_api_key", "create-api-key"),
    ],
)
def test_a_command_has_the_name_of_its_method_without_the_noun_of_its_service(
    service: str, method: str, name: str
) -> None:
    assert generated.command_name(contract.method(service, method)) == name


def test_the_help_of_a_command_is_what_the_contract_says(door: Door) -> None:
    shown = run(door, "sources", "create", "--help").output
    assert "already_exists: the name is taken" in " ".join(shown.split())
    assert "One of csv, json_lines, text, json, parquet, document." in " ".join(shown.split()).replace("│ ", "")
    assert "aimass doctor" in run(door, "--help").output
    assert "engines" in run(door, "--help").output
    assert "list" in run(door, "engines", "--help").output


def test_a_source_is_made_of_flags(door: Door) -> None:
    door.say({"source": "airports", "etag": "1"})
    result = run(door, "sources", "create", "airports", "--upload", "sha256:a", "--format", "csv", "-o", "json")

    assert json.loads(result.stdout)["etag"] == "1"
    assert door.asked[0].json == {
        "source": "airports",
        "files": {"upload_digest": "sha256:a", "format": "FILE_FORMAT_CSV"},
    }


def test_a_key_for_repeats_is_what_the_caller_says(door: Door) -> None:
    for _ in range(2):
        door.say({"source": "airports"})
    run(door, "sources", "create", "airports", "--format", "csv", "--idempotency-key", "first")
    run(door, "sources", "create", "airports", "--format", "csv")

    assert door.asked[0].headers["idempotency-key"] == "first"
    assert door.asked[1].headers["idempotency-key"] not in ("", "first")
    assert "--idempotency-key" not in run(door, "sources", "list", "--help").output


def test_json_and_flags_make_one_request(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text('{"spec": {"model": "late", "lightgbm": {"rounds": 5}}}')
    door.say({"operation": "trainer-1"})
    result = run(door, "jobs", "submit", "--json", f"@{path}", "--seed", "7", "--leaves", "15", "--no-wait")

    assert result.exit_code == 0, result.output
    assert door.asked[0].json["spec"] == {"model": "late", "lightgbm": {"rounds": 5, "leaves": 15}, "seed": "7"}


def test_lists_are_tables_for_people_and_json_for_programs(door: Door) -> None:
    door.say({"models": [{"model": "late", "latest_version": 3}], "next_page_token": "t"})
    shown = run(door, "models", "list")
    assert "latest_version" in shown.stdout
    assert "--page-token t" in shown.stderr
    assert json.loads(run(door, "models", "list", "-o", "json").stdout)["models"][0]["latest_version"] == 3
    door.answers[:] = []
    door.say({})
    assert "no models" in run(door, "models", "list").stderr


def test_all_pages_are_one_list(door: Door) -> None:
    door.say({"models": [{"model": "a"}], "next_page_token": "t"}).say({"models": [{"model": "b"}]})
    shown = json.loads(run(door, "models", "list", "--all", "-o", "json").stdout)
    assert [model["model"] for model in shown["models"]] == ["a", "b"]


def test_a_deletion_takes_the_etag_of_the_moment(door: Door) -> None:
    door.say({"model": "late", "etag": "9"}).say({})
    assert run(door, "models", "delete", "late").exit_code == 0
    assert [(a.method, a.headers.get("if-match")) for a in door.asked] == [("GET", None), ("DELETE", '"9"')]


def test_long_work_is_waited_for(door: Door) -> None:
    door.say({"operation": "data-1"}, 202)
    done = {"@type": "type.aimass.dev/aimass.v1.Extraction", "rows_accepted": "7"}
    door.say({"operation": "data-1", "state": 3, "end_time": "2026-01-01T00:00:00Z", "response": done})
    assert json.loads(run(door, "extractions", "run", "a", "-o", "json").stdout)["rows_accepted"] == "7"


def test_streams_are_lines_of_json(door: Door) -> None:
    door.say(b'{"text":"one"}\n{"text":"two"}\n')
    lines = run(door, "logs", "tail", "--query", "x").stdout.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["one", "two"]


def test_an_upload_prints_the_digest_that_the_next_command_takes(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "airports.csv"
    path.write_text("faa\nJFK\n")
    for _ in range(2):
        door.say({"upload": "u"}).say({"upload": "u", "committed_size": "8"}).say({"digest": "sha256:a"})
    assert run(door, "upload", str(path)).stdout == "sha256:a\n"
    assert json.loads(run(door, "upload", str(path), "--resume", "u", "-o", "json").stdout)["digest"] == "sha256:a"


def extraction(door: Door, version: int) -> None:
    door.say({"operation": "data-1"}, 202)
    done = {"@type": "type.aimass.dev/aimass.v1.Extraction", "data_set": "airports", "data_set_version": version}
    door.say({"operation": "data-1", "state": 3, "end_time": "2026-01-01T00:00:00Z", "response": done})


def test_extract_writes_the_rule_that_a_new_source_needs(door: Door) -> None:
    columns = [{"name": "faa", "type": "COLUMN_TYPE_STRING"}]
    door.refuse(404, "not_found").say({"files": {"format": "FILE_FORMAT_CSV"}}).say({"schema": {"columns": columns}})
    door.say({"latest_version": 1}).say({"active_version": 1})
    extraction(door, 1)
    quality = {"columns": [{"column": "faa", "distinct": "2"}], "quarantined": {"must be a number": "3"}}
    door.say({"data_set": "airports", "version": 1, "rows": "2", "schema": {"columns": columns}, "quality": quality})
    shown = run(door, "extract", "airports")

    assert shown.exit_code == 0, shown.output
    assert "airports version 1: 2 rows" in shown.stdout
    assert "quarantined: 3 must be a number" in shown.stdout
    rule = next(asked.json for asked in door.asked if asked.path == "/v1/rules")
    assert rule["definition"] == {"file": {"columns": [{"name": "faa", "type": "COLUMN_TYPE_STRING"}]}}


def test_extract_shows_what_is_there_when_nothing_is_new(door: Door) -> None:
    door.say({"active_version": 1})
    extraction(door, 0)
    door.say({"latest_version": 4}).say({"data_set": "airports", "version": 4})
    shown = run(door, "extract", "airports", "-o", "json")
    assert json.loads(shown.stdout)["version"] == 4
    assert "nothing new" in shown.stderr


@pytest.mark.parametrize("kind", [{"files": {"format": "FILE_FORMAT_TEXT"}}, {"sql": {"table": "t"}}])
def test_what_has_no_obvious_rule_is_left_to_its_owner(door: Door, kind: dict[str, Any]) -> None:
    door.refuse(404, "not_found").say(kind).say({"schema": {}})
    assert "aimass rules create" in str(run(door, "extract", "a").exception)


def test_predictions_come_from_rows(door: Door) -> None:
    outputs = [{"name": "p", "datatype": "FP32", "shape": [1, 1], "data": [0.5]}]
    for _ in range(2):
        door.say({"inputs": [{"name": "hour", "datatype": "INT64", "shape": [-1, 1]}]})
        door.say({"model_name": "late", "model_version": "2", "outputs": outputs})
    answer = json.loads(run(door, "predict", "late", '{"hour": 7}', "-o", "json").stdout)
    assert (answer["version"], answer["outputs"]) == (2, {"p": [0.5]})
    assert "0.5" in run(door, "predict", "late", '[{"hour": 7}]').stdout
    assert "not JSON" in str(run(door, "predict", "late", "{hour").exception)
    assert "list of them" in str(run(door, "predict", "late", "7").exception)


def test_a_login_is_tried_and_kept(door: Door, tmp_path: Path) -> None:
    door.say({"principal": "key:a", "tenant": "acme"})
    shown = CliRunner().invoke(build(), ["login", door.url], input="aim_secret\n")
    assert shown.exit_code == 0, shown.output
    assert "key:a of tenant acme" in shown.stdout
    assert "aim_secret" not in shown.output
    assert "aim_secret" in (tmp_path / ".config/aimass/config.toml").read_text()


def test_a_login_that_cannot_be_kept_is_said_so(door: Door, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    door.say({"principal": "key:a", "tenant": "acme"})
    (tmp_path / ".config/aimass/config.new").mkdir(parents=True)
    assert exits(["login", door.url, "--key", "aim_secret"]) == 1
    assert "nothing can be saved in" in " ".join(capsys.readouterr().err.split())


def test_a_logout_forgets_the_key_and_what_cannot_be_read(tmp_path: Path) -> None:
    path = doors.save(doors.Door("https://far.example", "aim_secret"))
    assert CliRunner().invoke(build(), ["logout"]).stdout == "logged out of https://far.example\n"
    assert not path.exists()
    path.write_text("key = ")
    assert exits(["logout"]) == 4
    assert not path.exists()


def test_status_shows_who_what_serves_and_what_runs(door: Door) -> None:
    for _ in range(2):
        door.say({"principal": "key:a", "tenant": "acme"})
        door.say({"releases": [{"model": "late", "state": "RELEASE_STATE_SERVING", "serving": {"version": 3}}]})
        for service in ("data", "trainer", "registry"):
            door.say({"operations": [{"operation": f"{service}-1", "resource": "jobs/1"}]})
    shown = run(door, "status").stdout
    assert "late" in shown
    assert "trainer-1" in shown
    assert len(json.loads(run(door, "status", "-o", "json").stdout)["operations"]) == 3


@pytest.mark.parametrize("named", [["--project", "lab"], []])
def test_status_is_that_of_the_project(door: Door, monkeypatch: pytest.MonkeyPatch, named: list[str]) -> None:
    monkeypatch.setenv("AIMASS_PROJECT", "lab" if not named else "another")
    door.say({})
    run(door, "status", *named)
    assert {asked.headers["x-project"] for asked in door.asked} == {"lab"}


def test_an_invoice_says_what_was_used_on_a_narrow_screen(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    attributes = {"entry.entry": "1", "entry.create_time": "2026-11-22T12:00:00Z", "entry.project": "default"}
    attributes |= {"entry.kind": "storage", "entry.used.storage_mib_hours": "4"}
    door.say({"records": [{"record": "1", "attributes": attributes}]}).say({})
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(door, "invoice", "--month", "2026-11")

    found = [["project", "kind", "entries", "used"], ["default", "storage", "1", "storage_mib_hours=4"]]
    assert [line.split() for line in shown.stdout.splitlines()] == found
    assert run(door, "invoice", "--month", "2026-12").stderr.strip() == "no usage in 2026-12"


@pytest.mark.parametrize(
    ("status", "code", "exit_code"), [(404, "not_found", 1), (401, "unauthenticated", 4), (403, "forbidden", 4)]
)
def test_exit_codes_tell_what_kind_of_failure_it_was(
    door: Door, status: int, code: str, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIMASS_URL", door.url)
    monkeypatch.setenv("AIMASS_KEY", "k")
    door.refuse(status, code, violations=[{"pointer": "/model", "rule": "must be set"}])
    assert exits(["models", "get", "late"]) == exit_code


def test_no_key_and_wrong_usage_have_their_own_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert exits(["models", "get", "late"]) == 4
    assert "aimass up" in capsys.readouterr().err
    assert exits(["models", "get"]) == 2
    assert exits(["modles"]) == 2


def test_up_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert exits(["up"]) == 1
    assert "pip install aimass-server" in capsys.readouterr().err
