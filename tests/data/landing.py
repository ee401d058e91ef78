"""What the tests of the warehouse ask for."""

from collections.abc import Awaitable
from typing import Any

from google.protobuf.json_format import ParseDict

from aimass.v1 import extractions_pb2 as pb
from aimass.v1 import operations_pb2, rules_pb2
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from aimass.v1.rules_pb2_grpc import RulesStub
from services.kit.errors import Code
from tests.data.extracting import Tenant
from tests.support.refused import refused

LANDED = {"landed": True}


async def replay(tenant: Tenant, rule: str, *permissions: str, **asked: Any) -> pb.Extraction:
    """Runs a rule over what landed, to its end; it must succeed."""
    request = ParseDict({"rule": rule, "origin": "EXTRACTION_ORIGIN_WAREHOUSE", **asked}, pb.RunExtractionRequest())
    begun = await tenant.house.stub(ExtractionsStub, "data", *permissions).RunExtraction(request)
    return await succeeded(tenant, begun.operation)


async def replay_set(tenant: Tenant, rule_set: str, **asked: Any) -> pb.Extraction:
    """The same for a rule set."""
    said = {"rule_set": rule_set, "origin": "EXTRACTION_ORIGIN_WAREHOUSE", **asked}
    begun = await tenant.stub(ExtractionsStub).RunRuleSet(ParseDict(said, pb.RunRuleSetRequest()))
    return await succeeded(tenant, begun.operation)


async def succeeded(tenant: Tenant, operation: str) -> pb.Extraction:
    """The extraction of an operation that has to succeed."""
    done = await tenant.ended(operation)
    assert done.state == operations_pb2.OPERATION_STATE_SUCCEEDED, done
    return pb.Extraction.FromString(done.response.value)


def counts(run: pb.Extraction) -> tuple[int, int, int]:
    """How many records landed, were read, and became rows."""
    return run.records_landed, run.records_read, run.rows_accepted


async def is_refused(call: Awaitable[object], code: Code, text: str) -> None:
    """A call has to fail so."""
    failure = await refused(call)
    assert (failure.code, text in failure.detail) == (code, True), failure.detail


async def second_rule(tenant: Tenant, name: str, source: str, definition: Any) -> None:
    """One more active rule on a source."""
    rules = tenant.stub(RulesStub)
    said = ParseDict(definition, rules_pb2.RuleDefinition())
    await rules.CreateRule(rules_pb2.CreateRuleRequest(rule=name, source=source, definition=said))
    await rules.ActivateRule(rules_pb2.ActivateRuleRequest(rule=name, version=1))
