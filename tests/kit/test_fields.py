import pytest
from google.protobuf.message import Message

from aimass.v1 import access_pb2, features_pb2, operations_pb2, rules_pb2, sources_pb2
from services.kit.errors import Code, Failure
from services.kit.fields import check


def refused(message: Message) -> tuple[Code, list[str]]:
    with pytest.raises(Failure) as caught:
        check(message)
    return caught.value.code, [violation.pointer for violation in caught.value.violations]


@pytest.mark.parametrize("name", ["a", "iris", "a-b_c9", "a" * 63])
def test_names_are_accepted(name: str) -> None:
    check(access_pb2.GetTenantRequest(tenant=name))


@pytest.mark.parametrize(
    "name", ["", "A", "9a", "-a", "a b", "a/b", "../a", "a.b", "a\n", "a\0", "%2e%2e", "a" * 64, "ä", "a\\b"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    assert refused(access_pb2.GetTenantRequest(tenant=name)) == (Code.INVALID_NAME, ["/tenant"])


def test_an_optional_name_may_be_left_out() -> None:
    check(access_pb2.CreateApiKeyRequest(tenant=""))


def test_long_strings_are_refused() -> None:
    assert refused(access_pb2.CreateApiKeyRequest(display_name="x" * 201)) == (Code.INVALID_VALUE, ["/display_name"])


def test_nul_is_refused() -> None:
    assert refused(access_pb2.CreateApiKeyRequest(display_name="a\0")) == (Code.INVALID_VALUE, ["/display_name"])


def test_long_lists_are_refused() -> None:
    request = access_pb2.CreateApiKeyRequest(permissions=["a.b"] * 101)
    assert refused(request) == (Code.INVALID_VALUE, ["/permissions"])


def test_rules_hold_inside_lists_and_one_of() -> None:
    step = features_pb2.FeatureStep(column="x" * 129, transform=features_pb2.TRANSFORM_COUNT)
    request = features_pb2.CreateFeatureSetRequest(feature_set="f", data_set="d", label="l", key="k", steps=[step])
    assert refused(request) == (Code.INVALID_VALUE, ["/steps/0/column"])

    source = sources_pb2.CreateSourceRequest(source="s", sql=sources_pb2.SqlSource(url="sqlite:///a", table="t"))
    assert refused(source) == (Code.INVALID_VALUE, ["/sql/cursor"])


def test_a_required_message_must_be_there() -> None:
    assert refused(rules_pb2.CreateRuleRequest(rule="r", source="s")) == (Code.INVALID_VALUE, ["/definition"])


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(2**63 - 1, 0), (253_402_300_800, 0), (-(2**63), 0), (0, -1), (0, 10**9)]
)
def test_a_time_that_nothing_can_read_is_refused(seconds: int, nanos: int) -> None:
    request = access_pb2.CreateApiKeyRequest()
    request.expire_time.seconds, request.expire_time.nanos = seconds, nanos
    assert refused(request) == (Code.INVALID_VALUE, ["/expire_time"])


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59.5Z", "9999-12-31T23:59:59.999999999Z"])
def test_a_time_at_the_bounds_is_one(at: str) -> None:
    request = access_pb2.CreateApiKeyRequest()
    request.expire_time.FromJsonString(at)
    check(request)


@pytest.mark.parametrize(("seconds", "nanos"), [(315_576_000_001, 0), (-(2**63), 0), (1, -1), (-1, 1), (1, 10**9)])
def test_a_duration_that_nothing_can_read_is_refused(seconds: int, nanos: int) -> None:
    request = operations_pb2.WaitOperationRequest(operation="o")
    request.timeout.seconds, request.timeout.nanos = seconds, nanos
    assert refused(request) == (Code.INVALID_VALUE, ["/timeout"])


def test_a_duration_may_be_negative() -> None:
    request = operations_pb2.WaitOperationRequest(operation="o")
    request.timeout.FromMilliseconds(-1500)
    check(request)


def test_output_only_fields_are_cleared() -> None:
    source = sources_pb2.Source(source="mine", description="kept", etag="7")
    check(source)

    assert (source.source, source.etag, source.description) == ("", "", "kept")
