"""Requests for every public method with the ids of what somebody made, over REST and over gRPC."""

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
import httpx2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from aimass.v1 import options_pb2
from services.gateway.api.routes import parameters
from services.kit import contract
from services.kit.contract import Method
from services.kit.status import failure_of
from tests.support.estate import MARK, Estate, spec, view_of

PUBLIC = {path: method for path, method in contract.all_methods().items() if method.public}
_FILES = [{"name": "model.onnx"}]
_DEFINITION = {"file": {"columns": [{"name": "id", "type": "COLUMN_TYPE_INT64"}]}}
_STEP = {"column": "hour", "transform": "TRANSFORM_IDENTITY"}
_CLEANING = {"step": "once", "duplicates": {}}
_HOOK = {"url": f"http://127.0.0.1:9/{MARK}"}
_MASKED = {"detector": "email", "action": "PRIVACY_ACTION_MASK"}
Fields = dict[str, Any]
# What a request says beside the ids in its path and deleted things, which it asks for wherever it can.
MORE: dict[str, Callable[[Callable[[str], Any]], Fields]] = {
    "CreateTenant": lambda of: {"tenant": of("tenant")},
    "CreateApiKey": lambda of: {"tenant": of("tenant")},
    "UpdateApiKey": lambda of: {"display_name": "mine", "update_mask": "displayName"},
    "CreateRole": lambda of: {"role": of("role"), "permissions": ["models.get"]},
    "UpdateRole": lambda of: {"description": "mine", "update_mask": "description"},
    "CreateBinding": lambda of: {"binding": of("binding"), "role": of("role"), "principal": f"key:{of('api_key')}"},
    "CreatePolicyVersion": lambda of: {"description": "mine"},
    "ExplainDecision": lambda of: {
        "request": {"principal": "key:abcd1234", "permission": "models.get", "time": "2030-01-01T00:00:00Z"}
    },
    "CreateQuota": lambda of: {
        "quota": of("quota"),
        "subject": "project:default",
        "meter": "METER_ROWS",
        "period": "PERIOD_DAY",
        "amount": 10**9,
    },
    "UpdateQuota": lambda of: {"amount": 20},
    "CreatePriceList": lambda of: {"currency": "EUR", "prices": [{"meter": "METER_ROWS", "micros": 5}]},
    "CreatePrivacyFilter": lambda of: {"privacy_filter": of("privacy_filter"), "models": ["*"], "rules": [_MASKED]},
    "UpdatePrivacyFilter": lambda of: {"description": "mine", "update_mask": "description"},
    "CreateSource": lambda of: {
        "source": of("source"),
        "files": {"upload_digest": of("digest"), "format": "FILE_FORMAT_CSV"},
    },
    "UpdateSource": lambda of: {"description": "mine", "update_mask": "description"},
    "PushRecords": lambda of: {"records": [{"id": "1"}]},
    "PreviewSource": lambda of: {"source": of("source")},
    "SetRepairPolicy": lambda of: {"policy": "REPAIR_POLICY_PROPOSE"},
    "DiscoverRules": lambda of: {"source": of("source")},
    "DiscoverJoins": lambda of: {"sources": [of("source")]},
    "CreateRule": lambda of: {"rule": f"{of('rule')}-2", "source": of("source"), "definition": _DEFINITION},
    "CreateRuleVersion": lambda of: {"definition": _DEFINITION},
    "ActivateRule": lambda of: {"version": 1},
    "CreateRuleSet": lambda of: {
        "rule_set": f"{of('rule_set')}-2",
        "source": of("source"),
        "rules": [{"rule": f"{of('rule')}-3", "definition": _DEFINITION}],
    },
    "CreateRuleSetVersion": lambda of: {"rules": [{"rule": f"{of('rule')}-4", "definition": _DEFINITION}]},
    "ActivateRuleSet": lambda of: {"version": 1},
    "QueryDataSets": lambda of: {
        "sql": f"SELECT count(*) AS rows FROM {of('data_set')}",
        "tables": [{"data_set": of("data_set"), "version": 1}],
    },
    "StreamQuery": lambda of: {
        "sql": f"SELECT count(*) AS rows FROM {of('data_set')}",
        "tables": [{"data_set": of("data_set"), "version": 1}],
    },
    "WriteTable": lambda of: {"table": "answers", "mode": "WRITE_MODE_APPEND", "data_set": of("data_set")},
    "SetExpectations": lambda of: {
        "expectations": [{"kind": "EXPECTATION_KIND_ROW_COUNT", "action": "EXPECTATION_ACTION_WARN", "minimum": "1"}]
    },
    "RepartitionDataSet": lambda of: {
        "partitioning": {"strategy": "PARTITION_STRATEGY_HASH", "fields": ["id"], "count": 2}
    },
    "SearchCatalogue": lambda of: {"query": of("data_set")},
    "UpdateDataSet": lambda of: {"description": "mine", "update_mask": "description"},
    "BranchDataSet": lambda of: {"branch": f"{MARK}-branch"},
    "MergeDataSetBranch": lambda of: {"branch": f"{MARK}-branch"},
    "DiffDataSet": lambda of: {"key": ["id"], "base_version": 1, "version": 1},
    "SearchFeatures": lambda of: {"label": "id"},
    "CreateFeatureSet": lambda of: {
        "feature_set": of("feature_set"),
        "data_set": of("data_set"),
        "label": "late",
        "key": "id",
        "steps": [_STEP],
    },
    "CreateFeatureView": lambda of: {"feature_view": of("feature_view"), "definition": view_of(of("data_set"))},
    "CreateFeatureViewVersion": lambda of: {"definition": view_of(of("data_set"))},
    "JoinFeatures": lambda of: {
        "output": f"{MARK}-joined",
        "data_set": of("data_set"),
        "event_time": "day",
        "views": [{"feature_view": of("feature_view"), "prefix": "now_"}],
    },
    "ReadFeatures": lambda of: {"keys": [{"values": [1]}]},
    "CreateSeriesSet": lambda of: {
        "series_set": of("series_set"),
        "data_set": of("data_set"),
        "output_data_set": f"{MARK}-3",
        "time": "day",
        "features": [{"name": "n", "statistic": "SERIES_STATISTIC_LAG", "column": "hour", "rows": 1}],
    },
    "ClusterSeries": lambda of: {
        "output_data_set": f"{MARK}-clusters",
        "data_set": of("data_set"),
        "keys": ["id"],
        "time": "day",
        "column": "hour",
        "rows": 2,
        "clusters": 2,
    },
    "CreatePipeline": lambda of: {
        "pipeline": of("pipeline"),
        "steps": [{"data_set": f"{MARK}-2", "sql": f"SELECT * FROM {of('data_set')}", "inputs": [of("data_set")]}],
    },
    "CreateRecipe": lambda of: {
        "recipe": of("recipe"),
        "data_set": of("data_set"),
        "output_data_set": f"{MARK}-2",
        "steps": [_CLEANING],
    },
    "CreateRecipeVersion": lambda of: {"steps": [_CLEANING]},
    "PreviewRecipe": lambda of: {"steps": [_CLEANING]},
    "SubmitJob": lambda of: {"spec": spec() | {"feature_set": of("feature_set"), "model": of("model")}},
    "CreateModel": lambda of: {"model": of("model")},
    "CreateModelVersion": lambda of: {"files": [_FILES[0] | {"digest": of("digest")}]},
    "CommitSourceUpload": lambda of: {"digest": of("digest")},
    "CommitArtifactUpload": lambda of: {"digest": of("digest")},
    "WriteSourceUpload": lambda of: {"body": {"data": "eA=="}},
    "WriteArtifactUpload": lambda of: {"body": {"data": "eA=="}},
    "WaitOperation": lambda of: {"timeout": "0.1s"},
    "RecordOutcomes": lambda of: {"outcomes": [{"request_id": of("request_id"), "row": 0, "value": 1}]},
    "SearchLogs": lambda of: {"query": f"request_id:{of('request_id')}"},
    "CountLogs": lambda of: {"query": f"request_id:{of('request_id')}"},
    "TailLogs": lambda of: {"query": f"model:{of('model')}"},
    "CreateSubscription": lambda of: {"subscription": of("subscription"), "filter": "kind:event", "webhook": _HOOK},
    "PreviewSubscription": lambda of: {"filter": f"request_id:{of('request_id')}"},
    "ListOperations": lambda of: {"service": "data"},
    "SetLimit": lambda of: {"limit": of("limit"), "level": "LIMIT_LEVEL_TENANT", "rate": 1e6, "burst": 1e6},
    "ListExtractions": lambda of: {"rule": of("rule"), "rule_set": of("rule_set")},
    "ListJobs": lambda of: {"model": of("model")},
    "ListRuns": lambda of: {"model": of("model")},
}


class Reply(NamedTuple):
    """What came back: `ok` or the code of the failure, and all that was said."""

    code: str
    status: int
    text: str
    detail: str = ""


def request_of(method: Method, estate: Estate) -> Message:
    """A request for what the estate holds. Fails for a method that needs more than is known of it."""
    service, name = method.descriptor.containing_service.name, method.descriptor.name
    fields: Fields = {"show_deleted": True} if "show_deleted" in method.takes.fields_by_name else {}
    for parameter in parameters(method.route):
        fields[parameter] = estate.of(service, parameter)
        assert fields[parameter] is not None, f"no id for {parameter} of {name}: make one in tests/support/estate.py"
    if name in MORE:
        fields |= MORE[name](lambda kind: estate.of(service, kind))
    missing = [field.name for field in method.takes.fields if _needed(field) and field.name not in fields]
    assert not missing, f"{name} needs {missing[0]}: say in tests/support/asking.py what to ask it"
    return ParseDict(fields, GetMessageClass(method.takes)())


def _needed(field: FieldDescriptor) -> bool:
    rule = field.GetOptions().Extensions[options_pb2.field]
    return not rule.output_only and (rule.required or (rule.name and not rule.optional))


def ask_rest(client: httpx2.Client, method: Method, request: Message, key: str, **headers: str) -> Reply:
    """Asks over HTTP, as the contract's rule says; without a key when it is empty."""
    fields = MessageToDict(request, preserving_proto_field_name=True)
    path = method.route
    for name in parameters(path):
        path = path.replace(f"{{{name}}}", str(fields.pop(name)))
    content: Fields = {}
    if method.body == "*":
        content = {"json": fields}
    elif method.body:
        content = {"content": b"x"}
    else:
        content = {"params": {key: str(value).lower() if value is True else value for key, value in fields.items()}}
    answer = client.request(method.verb, path, headers=_said(method, key, headers), **content)
    if answer.status_code < 400:
        return Reply("ok", answer.status_code, answer.text)
    problem = answer.json()
    return Reply(problem["code"], answer.status_code, answer.text, problem["detail"])


def ask_grpc(channel: grpc.Channel, method: Method, request: Message, key: str, **headers: str) -> Reply:
    """Asks over gRPC; without a key when it is empty."""
    kind = "unary_stream" if method.descriptor.server_streaming else "unary_unary"
    reply = GetMessageClass(method.gives)
    call = getattr(channel, kind)(method.path, lambda sent: sent.SerializeToString(), reply.FromString)
    metadata = tuple(_said(method, key, headers).items())
    timeout = 0.3 if method.descriptor.name == "TailLogs" else 10
    got: list[str] = []
    try:
        if kind == "unary_stream":
            got += (str(item) for item in call(request, timeout=timeout, metadata=metadata))
        else:
            got.append(str(call(request, timeout=timeout, metadata=metadata)))
    except grpc.RpcError as error:
        failure = failure_of(error, method.owner)
        if method.descriptor.name != "TailLogs" or failure.code.text != "deadline_exceeded":
            return Reply(failure.code.text, failure.code.http, "".join(got) + failure.detail, failure.detail)
    return Reply("ok", 200, "".join(got))


def _said(method: Method, key: str, headers: dict[str, str]) -> dict[str, str]:
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    if key:
        found["authorization"] = f"Bearer {key}"
    if method.policy.etag_required:
        found["if-match"] = '"1"'
    if method.descriptor.name == "TailLogs":
        found["x-request-timeout"] = "0.3"
    return found
