"""Requests as command lines: every method, every field, and what people get wrong."""

import io
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from aimass import Failure, contract
from aimass.cli.flags import Flag, flags, gather, parse, positional
from aimass.contract import Method, policy_of
from aimass.encoding import prepare

METHODS = [method for methods in contract.services().values() for method in methods.values()]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.service}.{method.name}")
SUBMIT, CREATE = contract.method("jobs", "submit_job"), contract.method("sources", "create_source")


def flag(method: Method, name: str) -> Flag:
    return next(found for found in flags(method) if found.name == name)


@every_method
def test_no_two_flags_of_a_command_have_one_name(method: Method) -> None:
    options = [option for found in flags(method) for option in found.options]

    assert len(set(options)) == len(options)
    taken = {"--json", "--output", "-o", "--project", "--all", "--wait", "--no-wait"}
    assert not (taken | ({"--etag"} if method.policy.etag_required else set())) & set(options)


@every_method
def test_what_the_server_writes_is_no_flag(method: Method) -> None:
    assert not [found.name for found in flags(method) if policy_of(found.field).output_only]


@every_method
def test_a_place_in_the_route_needs_no_flag(method: Method) -> None:
    given = positional(method)

    assert set(method.path_fields) <= set(given)
    assert not {found.path[0] for found in flags(method)} & set(given)


@every_method
def test_every_flag_leads_to_a_field_of_the_request(method: Method) -> None:
    for found in flags(method):
        descriptor = method.takes
        for step in found.path[:-1]:
            inner = descriptor.fields_by_name[step].message_type
            assert inner
            descriptor = inner
        assert descriptor.fields_by_name[found.path[-1]] is found.field


@pytest.mark.parametrize(
    ("method", "name", "kind", "repeated", "json"),
    [
        (SUBMIT, "seed", int, False, False),
        (SUBMIT, "model", str, False, False),
        (CREATE, "format", str, False, False),
        (CREATE, "null_values", str, True, False),
        (contract.method("data_sets", "read_rows"), "columns", str, True, False),
        (contract.method("models", "create_model_version"), "metrics", str, False, True),
        (contract.method("models", "create_model_version"), "files", str, False, True),
        (contract.method("models", "list_models"), "show_deleted", bool, False, False),
        (contract.method("operations", "wait_operation"), "timeout", str, False, False),
    ],
)
def test_a_flag_takes_what_its_field_holds(method: Method, name: str, kind: Any, repeated: bool, json: bool) -> None:
    found = flag(method, name)

    assert (found.kind, found.repeated, found.json) == (kind, repeated, json)


def test_a_digest_has_a_short_form() -> None:
    assert flag(CREATE, "upload_digest").options == ["--upload-digest", "--upload"]


def test_flags_make_the_messages_that_they_are_in() -> None:
    found = gather(flags(SUBMIT), {"spec_model": "late", "spec_lightgbm_leaves": 15}, {})

    assert found == {"spec": {"model": "late", "lightgbm": {"leaves": 15}}}


def test_flags_stand_above_the_json_and_leave_it_as_it_was() -> None:
    start = {"spec": {"model": "late", "seed": "1"}}

    assert gather(flags(SUBMIT), {"spec_seed": 7}, start)["spec"] == {"model": "late", "seed": 7}
    assert start == {"spec": {"model": "late", "seed": "1"}}


@pytest.mark.parametrize("value", [None, []])
def test_what_was_not_given_is_not_in_the_request(value: Any) -> None:
    assert gather(flags(SUBMIT), {"spec_seed": value}, {}) == {}


@pytest.mark.parametrize("value", [0, False, "", 0.0])
def test_what_was_given_as_nothing_is(value: Any) -> None:
    assert gather(flags(SUBMIT), {"spec_seed": value}, {}) == {"spec": {"seed": value}}


@pytest.mark.parametrize("start", [[], [1], "x", 7, None, True])
def test_json_that_is_no_object_is_refused(start: Any) -> None:
    with pytest.raises(Failure, match="--json is not a JSON object"):
        gather(flags(SUBMIT), {}, start)


@pytest.mark.parametrize("inner", [7, "x", [1], None])
def test_a_flag_below_something_else_is_refused_with_its_place(inner: Any) -> None:
    with pytest.raises(Failure, match="--seed: spec is not a JSON object in --json"):
        gather(flags(SUBMIT), {"spec_seed": 7}, {"spec": inner})


def test_a_flag_of_json_is_read() -> None:
    method = contract.method("models", "create_model_version")

    assert gather(flags(method), {"metrics": '{"auc": 0.7}'}, {}) == {"metrics": {"auc": 0.7}}
    with pytest.raises(Failure, match="--metrics is not JSON"):
        gather(flags(method), {"metrics": "{auc: 0.7}"}, {})


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(json)
def test_json_is_read_as_it_was_written(value: Any) -> None:
    try:
        text = orjson.dumps(value).decode()
    except TypeError:
        return  # a lone surrogate is no text
    assert parse(text, "ROWS") == value


@given(st.text(max_size=20).filter(lambda text: text != "-" and not text.startswith("@")))
def test_no_text_breaks_the_reading(text: str) -> None:
    try:
        parse(text, "ROWS")
    except Failure as failure:
        assert failure.code == "invalid_value"
        assert failure.detail.startswith("ROWS is not JSON")


def test_a_file_is_read_and_its_faults_are_named(tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text('{"a": "ä"}')
    (tmp_path / "binary.json").write_bytes(b'{"a": "\xff"}')
    (tmp_path / "cut.json").write_text('{"a": ')

    assert parse(f"@{tmp_path}/good.json", "ROWS") == {"a": "ä"}
    for name, said in (("binary", "not JSON"), ("cut", "not JSON"), ("none", "cannot be read: No such file")):
        with pytest.raises(Failure, match=f"ROWS.*{said}"):
            parse(f"@{tmp_path}/{name}.json", "ROWS")
    with pytest.raises(Failure, match="cannot be read: Is a directory"):
        parse(f"@{tmp_path}", "ROWS")


@every_method
def test_the_help_of_a_choice_names_the_choices(method: Method) -> None:
    for found in flags(method):
        if found.field.enum_type:
            assert "One of " in found.help
            assert "unspecified" not in found.help
        if found.json:
            assert found.help.endswith("As JSON.")


def sample(field: FieldDescriptor) -> Any:
    """A value that a field takes."""
    kinds = {str: "a", bool: True, int: 1, float: 1.5}
    if field.enum_type:
        return field.enum_type.values[-1].name
    return kinds[Flag(field, (field.name,), field.name).kind]


@every_method
def test_every_plain_flag_reaches_the_request(method: Method) -> None:
    """What the flags make is something that the client can send."""
    plain = [f for f in flags(method) if not f.json and f.field.message_type is None]
    given = {"_".join(f.path): [sample(f.field)] if f.repeated else sample(f.field) for f in plain}
    request = gather(plain, given, {})
    request |= {name: 1 if method.takes.fields_by_name[name].cpp_type != 9 else "a" for name in positional(method)}
    prepared = prepare(method, request)

    assert prepared.path.startswith("/v1/")
    assert "{" not in prepared.path
    assert io.BytesIO(prepared.body or b"")
