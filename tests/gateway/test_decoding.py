import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.v1 import access_pb2, logs_pb2, models_pb2, operations_pb2, sources_pb2
from services.gateway.api.decoding import DEPTH, Decoder, parse
from services.gateway.api.encoding import encode
from services.kit.errors import Code, Failure

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def fill(message: Any, fields: dict[str, Any]) -> Any:
    decoder = Decoder()
    decoder.fill(message, fields)
    decoder.raise_wrong()
    return message


def wrong(message: Any, fields: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(Failure) as caught:
        fill(message, fields)
    assert caught.value.code is Code.INVALID_VALUE
    return {violation.pointer: violation.rule for violation in caught.value.violations}


@given(
    name=texts,
    projects=st.lists(texts, max_size=5),
    rate=st.floats(allow_nan=False),
    seconds=st.integers(0, 253_402_300_799),
)
def test_what_is_written_is_read_again(name: str, projects: list[str], rate: float, seconds: int) -> None:
    message = access_pb2.CreateApiKeyRequest(display_name=name, projects=projects)
    message.rate_limit.rate = rate
    message.expire_time.seconds = seconds

    assert fill(access_pb2.CreateApiKeyRequest(), orjson.loads(encode(message))) == message


@given(st.dictionaries(texts, st.floats(allow_nan=False), max_size=5), st.integers(-(2**31), 2**31 - 1))
def test_maps_and_numbers_that_are_written_are_read_again(metrics: dict[str, float], size: int) -> None:
    version = models_pb2.ModelVersion(metrics=metrics, version=size)

    assert fill(models_pb2.ModelVersion(), orjson.loads(encode(version))) == version


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["tenant", "projects", "rate_limit", "expire_time", "x"]), json_values))
def test_nothing_but_a_failure_comes_of_any_json(fields: dict[str, Any]) -> None:
    try:
        fill(access_pb2.CreateApiKeyRequest(), fields)
    except Failure as failure:
        assert failure.violations
        assert "aimass" not in failure.detail


@given(st.binary(max_size=200))
def test_nothing_but_a_failure_comes_of_any_bytes(body: bytes) -> None:
    try:
        assert isinstance(parse(body), dict)
    except Failure as failure:
        assert failure.code in (Code.MALFORMED_JSON, Code.INVALID_VALUE)


def test_an_empty_body_is_an_empty_object() -> None:
    assert parse(b"") == {}


def test_depth_has_a_bound() -> None:
    deep = b'{"a":' * DEPTH + b"1" + b"}" * DEPTH
    assert parse(deep)
    with pytest.raises(Failure, match="deeper than 32"):
        parse(b'{"a":' + deep + b"}")


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 1.5, True, "1.0", "x", "", "٣", [], {}, 1e300, "9" * 30])
def test_what_is_no_int32_is_refused(value: Any) -> None:
    found = wrong(access_pb2.ListTenantsRequest(), {"page_size": value})

    assert found == {"/page_size": "must be a whole number from -2147483648 to 2147483647"}


@pytest.mark.parametrize("value", [5, "5", 5.0])
def test_a_whole_number_may_be_text(value: Any) -> None:
    assert fill(access_pb2.ListTenantsRequest(), {"page_size": value}).page_size == 5


@pytest.mark.parametrize("value", ["NaN", "Infinity", 1, "1.5"])
def test_a_float_may_be_text(value: Any) -> None:
    rate = fill(access_pb2.RateLimit(), {"rate": value}).rate

    assert math.isnan(rate) if value == "NaN" else rate == float(value)


def test_names_of_the_proto_are_the_only_ones() -> None:
    assert wrong(access_pb2.CreateTenantRequest(), {"displayName": "x"}) == {"/displayName": "is not known"}


def test_an_enum_is_its_name_in_full() -> None:
    message = fill(operations_pb2.Operation(), {"state": "OPERATION_STATE_FAILED"})
    found = wrong(operations_pb2.Operation(), {"state": 4})

    assert message.state == operations_pb2.OPERATION_STATE_FAILED
    assert found["/state"].startswith("must be one of OPERATION_STATE_UNSPECIFIED")


def test_one_of_several_is_one_only() -> None:
    oneof = sources_pb2.Source.DESCRIPTOR.oneofs[0]
    first, second = (field.name for field in oneof.fields[:2])

    assert wrong(sources_pb2.Source(), {first: {}, second: {}}) == {f"/{second}": f"cannot be set beside {first}"}


def test_null_is_the_same_as_nothing() -> None:
    assert fill(access_pb2.CreateTenantRequest(), {"tenant": None}) == access_pb2.CreateTenantRequest()


def test_a_pointer_escapes_what_it_must() -> None:
    assert wrong(access_pb2.CreateTenantRequest(), {"a/b~c": 1}) == {"/a~1b~0c": "is not known"}


def test_an_answer_names_no_more_than_twenty_violations() -> None:
    assert len(wrong(access_pb2.CreateTenantRequest(), {f"x{n}": 1 for n in range(100)})) == 20


def test_a_time_out_of_range_is_refused() -> None:
    found = wrong(access_pb2.CreateApiKeyRequest(), {"expire_time": "99999-01-01T00:00:00Z"})

    assert found == {"/expire_time": "must be a time such as 2026-01-31T12:00:00Z"}


def test_query_texts_become_what_the_field_is() -> None:
    decoder, message = Decoder(), operations_pb2.WaitOperationRequest()
    decoder.texts(message, {"operation": ["data-1"], "timeout": ["2s"], "timeout.nanos": ["5"], "a.b": ["1"]})
    with pytest.raises(Failure) as caught:
        decoder.raise_wrong()

    assert [violation.pointer for violation in caught.value.violations] == ["/a/b"]
    assert (message.timeout.seconds, message.timeout.nanos) == (2, 5)


def test_a_message_of_the_contract_can_be_written_with_its_defaults() -> None:
    assert b'"attributes":{}' in encode(logs_pb2.LogRecord())
