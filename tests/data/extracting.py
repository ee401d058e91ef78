"""A tenant with sources and rules, and what a user does with them."""

from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict, ParseDict

from aimass.v1 import datasets_pb2, operations_pb2, rule_sets_pb2, rules_pb2, sources_pb2
from aimass.v1 import extractions_pb2 as pb
from aimass.v1.datasets_pb2_grpc import DataSetsStub
from aimass.v1.extractions_pb2_grpc import ExtractionsStub
from aimass.v1.operations_pb2_grpc import OperationsStub
from aimass.v1.rule_sets_pb2_grpc import RuleSetsStub
from aimass.v1.rules_pb2_grpc import RulesStub
from aimass.v1.sources_pb2_grpc import SourcesStub
from tests.data.rule_sets import rule_set
from tests.support.house import House

FLIGHTS = {"sql": {"sql": "SELECT id, carrier, dep_delay FROM flights"}}
FLIGHTS_SOURCE = {"sql": {"url": "sqlite:///flights.db", "table": "flights", "cursor": "id"}}
WEATHER = {
    "file": {
        "columns": [
            {"name": "origin", "type": "COLUMN_TYPE_STRING", "required": True},
            {"name": "temp", "type": "COLUMN_TYPE_DOUBLE"},
        ]
    }
}
WEATHER_SOURCE = {"files": {"pattern": "weather/*.csv", "format": "FILE_FORMAT_CSV", "null_values": ["NA"]}}


class Tenant:
    """What one project of a tenant asks for."""

    def __init__(self, house: House, project: str = "default") -> None:
        self.house, self.project = house, project

    def stub(self, kind: Any, **metadata: str) -> Any:
        return self.house.stub(kind, "data", project=self.project, **metadata)

    async def rule(self, name: str, source: dict[str, Any], rule: dict[str, Any]) -> None:
        """Makes a source and an active rule on it, both of this name."""
        request = ParseDict({"source": name, **source}, sources_pb2.CreateSourceRequest())
        await self.stub(SourcesStub).CreateSource(request)
        definition = ParseDict(rule, rules_pb2.RuleDefinition())
        rules = self.stub(RulesStub)
        await rules.CreateRule(rules_pb2.CreateRuleRequest(rule=name, source=name, definition=definition))
        await rules.ActivateRule(rules_pb2.ActivateRuleRequest(rule=name, version=1))

    async def begin(self, rule: str, **metadata: str) -> Any:
        """Begins an extraction; its operation."""
        return await self.stub(ExtractionsStub, **metadata).RunExtraction(pb.RunExtractionRequest(rule=rule))

    async def rule_set(self, name: str, source: dict[str, Any], *rules: dict[str, Any], **more: Any) -> None:
        """Makes a source and an active rule set on it, both of this name."""
        request = ParseDict({"source": name, **source}, sources_pb2.CreateSourceRequest())
        await self.stub(SourcesStub).CreateSource(request)
        sets = self.stub(RuleSetsStub)
        await sets.CreateRuleSet(rule_set(name, *rules, source=name, **more))
        await sets.ActivateRuleSet(rule_sets_pb2.ActivateRuleSetRequest(rule_set=name, version=1))

    async def begin_set(self, name: str) -> Any:
        """Begins an extraction of a rule set; its operation."""
        return await self.stub(ExtractionsStub).RunRuleSet(pb.RunRuleSetRequest(rule_set=name))

    async def extract_set(self, name: str) -> pb.Extraction:
        """Runs an extraction of a rule set to its end; it must succeed."""
        done = await self.ended((await self.begin_set(name)).operation)
        assert done.state == operations_pb2.OPERATION_STATE_SUCCEEDED, done
        return pb.Extraction.FromString(done.response.value)

    async def ended(self, operation: str, seconds: int = 30) -> Any:
        """The operation at its end."""
        request = operations_pb2.WaitOperationRequest(operation=operation, timeout=Duration(seconds=seconds))
        return await self.stub(OperationsStub).WaitOperation(request, timeout=seconds + 5)

    async def extract(self, rule: str) -> pb.Extraction:
        """Runs an extraction to its end; it must succeed."""
        done = await self.ended((await self.begin(rule)).operation)
        assert done.state == operations_pb2.OPERATION_STATE_SUCCEEDED, done
        return pb.Extraction.FromString(done.response.value)

    async def rows(self, data_set: str, version: int = 0) -> list[dict[str, Any]]:
        """The first rows of a version."""
        request = datasets_pb2.ReadRowsRequest(data_set=data_set, version=version, page_size=1000)
        found = await self.stub(DataSetsStub).ReadRows(request)
        return [MessageToDict(row) for row in found.rows]

    async def quarantine(self, data_set: str, version: int) -> list[tuple[str, str, str]]:
        """What a version's run put aside: record, reason, origin."""
        request = datasets_pb2.ListQuarantineRequest(data_set=data_set, version=version, page_size=1000)
        found = await self.stub(DataSetsStub).ListQuarantine(request)
        return [(row.record, row.reason, row.origin) for row in found.rows]

    async def version(self, data_set: str, version: int = 0) -> Any:
        """A version of a data set."""
        request = datasets_pb2.GetDataSetVersionRequest(data_set=data_set, version=version)
        return await self.stub(DataSetsStub).GetDataSetVersion(request)


def append(path: Path, text: str) -> None:
    """Adds text to a file, as whoever writes a log does."""
    with path.open("a") as file:
        file.write(text)
