from datetime import UTC, datetime, timedelta
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass import Failure, contract
from aimass.encoding import decode, plain, prepare
from aimass.v1 import features_pb2, sources_pb2


def body(service: str, name: str, **arguments: Any) -> Any:
    import orjson

    return orjson.loads(prepare(contract.method(service, name), arguments).body or b"null")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
        ("2026-01-02T00:00:00Z", "2026-01-02T00:00:00Z"),
    ],
)
def test_times_are_rfc_3339(value: Any, text: str) -> None:
    assert dict(prepare(contract.method("logs", "count_logs"), {"since": value}).query)["since"] == text


@pytest.mark.parametrize("value", [1.5, timedelta(seconds=1.5), "1.5s"])
def test_durations_are_seconds(value: Any) -> None:
    prepared = prepare(contract.method("operations", "wait_operation"), {"operation": "data-1", "timeout": value})
    assert dict(prepared.query) == {"timeout": "1.5s"}
    assert prepared.path == "/v1/operations/data-1:wait"


@pytest.mark.parametrize("value", [2, "FILE_FORMAT_JSON_LINES", "json-lines", "JSON_LINES"])
def test_an_enum_may_be_a_number_or_a_name_long_or_short(value: Any) -> None:
    assert body("sources", "create_source", source="a", files={"format": value})["files"] == {
        "format": "FILE_FORMAT_JSON_LINES"
    }


def test_messages_mappings_numpy_and_long_numbers_are_written_as_json() -> None:
    train = features_pb2.RowRange(column="month", to=9)
    spec = {"train": train, "seed": numpy.int64(2**60), "evaluate": {"column": "month", "from": numpy.float32(10)}}
    written = body("jobs", "submit_job", spec=spec)["spec"]
    assert written["train"] == {"column": "month", "to": 9.0}
    assert written["seed"] == str(2**60)
    assert written["evaluate"] == {"column": "month", "from": 10.0}


def test_maps_masks_lists_and_flags_have_their_own_form() -> None:
    made = body("models", "create_model_version", model="m", metrics={"auc": 0.7}, files=[{"name": "model.onnx"}])
    assert made == {"metrics": {"auc": 0.7}, "files": [{"name": "model.onnx"}]}
    assert body("sources", "update_source", source="a", update_mask=["sql", "files"])["update_mask"] == "sql,files"
    prepared = prepare(contract.method("data_sets", "read_rows"), {"data_set": "a", "columns": ["x", "y"]})
    assert prepared.query == [("columns", "x"), ("columns", "y")]
    assert prepared.path == "/v1/data-sets/a/versions/0/rows"
    assert prepare(contract.method("models", "list_models"), {"show_deleted": True}).query == [("show_deleted", "true")]


def test_a_chunk_is_the_body_itself() -> None:
    prepared = prepare(contract.method("sources", "write_source_upload"), {"upload": "u", "offset": 3, "body": b"\0"})
    assert (prepared.path, prepared.query, prepared.body) == ("/v1/uploads/u", [("offset", "3")], b"\0")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"source": "a", "modle": 1}, "create_source has no modle"),
        ({"source": "a", "files": {"fromat": 1}}, "FilesSource has no fromat"),
        ({"source": "a", "files": "x"}, "files takes a mapping or a FilesSource"),
        ({"source": "a", "files": {"null_values": "NA"}}, "null_values takes a list, not str"),
    ],
)
def test_what_the_contract_does_not_know_is_a_type_error(arguments: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        prepare(contract.method("sources", "create_source"), arguments)


def test_a_path_needs_its_names() -> None:
    with pytest.raises(TypeError, match=r"get_model\(\) needs model"):
        prepare(contract.method("models", "get_model"), {})


@given(st.text(min_size=1, max_size=30))
def test_no_name_leaves_its_place_in_the_path(name: str) -> None:
    try:
        path = prepare(contract.method("models", "get_model"), {"model": name}).path
    except UnicodeEncodeError:
        return  # a lone surrogate is no text
    except Failure:
        assert name in (".", "..")
        return
    assert path.startswith("/v1/models/")
    assert "/" not in path.removeprefix("/v1/models/")
    assert "?" not in path


def test_an_empty_answer_is_the_empty_message_and_plain_prints_defaults() -> None:
    empty = decode(sources_pb2.ListSourcesResponse.DESCRIPTOR, b"")
    assert plain(empty) == {"sources": [], "next_page_token": ""}
