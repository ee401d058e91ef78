"""Nobody reaches what another tenant made: every public method of the running house, over REST and over gRPC."""

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from aimass.v1 import options_pb2
from services.gateway.api import openapi_fixed
from services.gateway.api.oip_messages import SERVICE, message
from services.kit.auth import grants
from services.kit.contract import Method
from services.kit.status import failure_of
from tests.support.asking import PUBLIC, Reply, ask_grpc, ask_rest, request_of
from tests.support.estate import MARK, Estate
from tests.support.server import Server, serving

METHODS = list(PUBLIC.values())
# What answers a stranger with what he has himself, nothing, as he has made nothing, or with what is the house's.
OWN = {
    "WhoAmI", "GetReceiptKey", "ListTenants", "ListApiKeys", "ListRoles", "ListBindings", "ListLimits",
    "GetPolicies", "ListPolicyVersions", "ListDecisions", "ExplainDecision",
    "ListQuotas", "ListUsage", "ListPriceLists",
    "ListSources", "ListRules", "ListRuleSets", "ListExtractions", "ListDataSets", "ListPrivacyFilters",
    "ListFeatureSets", "ListFeatureViews", "ListSeriesSets", "ListPipelines", "ListJobs", "ListRuns", "ListModels",
    "ListReleases",
    "ListEngines", "ListOperations", "ListSubscriptions", "SearchLogs", "CountLogs", "TailLogs", "PreviewSubscription",
    "GetQuality",
    "SearchCatalogue", "ListRecipes",
}  # fmt: skip
# What makes a thing of the stranger's own, whatever others have by that name.
MAKES = {
    "CreateModel", "CreatePipeline", "CreateRecipe", "CreateFeatureSet", "CreateSeriesSet", "CreateSubscription",
    "CreateSourceUpload",
    "CreateArtifactUpload", "RecordOutcomes", "CreateRole", "SetLimit", "CreatePolicyVersion",
    "CreateQuota", "CreatePrivacyFilter",
}  # fmt: skip
# What says it by another code: uploads and keys are fields of what is made, tenants are made by administrators only.
REFUSED = {
    "CreateSource": "invalid_value",
    "CreateBinding": "invalid_value",
    "CreateTenant": "forbidden",
    "CreatePriceList": "forbidden",
}
# `nothing` is a key that waits for bindings.
ROLES = ("viewer", "operator", "developer", "admin", "nothing")
# More calls than a test has, and an address for webhooks at which nobody listens.
MANY, NOBODY = "100000", "127.0.0.1:9"


@dataclass
class House:
    """A running house with a tenant who made one thing of each kind."""

    server: Server
    estate: Estate
    channel: grpc.Channel
    keys: dict[str, str]
    http: httpx2.Client

    def both(self, method: Method, key: str, estate: Estate | None = None, **headers: str) -> list[Reply]:
        """What both doors answer to a key that asks for what is in an estate."""
        request = request_of(method, estate or self.estate)
        rest = ask_rest(self.http, method, request, key, **headers)
        return [rest, ask_grpc(self.channel, method, request, key, **headers)]

    def key_without(self, permission: str) -> str:
        """A key of the owner that may do everything else."""
        if permission not in self.keys:
            needed = ({method.policy.permission for method in METHODS} | {"models.infer"}) - {permission, ""}
            of = permission.partition(".")[0]
            # A key holds a hundred permissions, and there are more: all of another resource are one.
            others = {one if one.startswith(f"{of}.") else f"{one.partition('.')[0]}.*" for one in needed}
            wanted = {"permissions": sorted(others)}
            answer = self.http.post("/v1/api-keys", json=wanted, headers=bearer(self.estate.key))
            self.keys[permission] = answer.json()["secret"]
        return self.keys[permission]

    def key_with(self, tenant: str, role: str) -> str:
        """A key of a tenant that has one role, or nothing."""
        name = f"{tenant} {role}"
        if name not in self.keys:
            wanted = {"bindings_only": True} if role == "nothing" else {"roles": [role]}
            maker = self.keys.get(tenant, self.estate.key)
            self.keys[name] = self.http.post("/v1/api-keys", json=wanted, headers=bearer(maker)).json()["secret"]
        return self.keys[name]

    def may(self, role: str, permission: str) -> bool:
        """Whether a role grants a permission, as the house itself says."""
        if role == "nothing" or not permission:
            return not permission
        found = self.http.get(f"/v1/roles/{role}", headers=bearer(self.estate.key)).json()
        return any(grants(pattern, permission) for pattern in found["permissions"])


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def new_tenant(server: Server, name: str) -> str:
    with server.client() as admin:
        admin.access.create_tenant(tenant=name)
        return str(admin.access.create_api_key(tenant=name).secret)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("tenancy") / "home"
    with serving(home, AIMASS_GATEWAY_RATE=MANY, AIMASS_GATEWAY_BURST=MANY, AIMASS_EGRESS_ALLOW=NOBODY) as server:
        estate = Estate(server, new_tenant(server, f"{MARK}-owner"), f"{MARK}-owner")
        estate.make()
        keys = {name: new_tenant(server, name) for name in ("stranger", "twin", "maker")}
        with grpc.insecure_channel(server.grpc) as channel, httpx2.Client(base_url=server.url, timeout=30) as http:
            yield House(server, estate, channel, keys, http)


def name_of(method: Method) -> str:
    return str(method.descriptor.name)


def each(methods: Iterable[Method]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("method", list(methods), ids=name_of)


def test_the_running_house_has_no_other_methods_than_those_that_are_asked_here(house: House) -> None:
    document = house.http.get("/openapi.json", headers=bearer(house.estate.key)).json()
    routes = {(verb.upper(), path) for path, verbs in document["paths"].items() for verb in verbs}
    predictions = {(verb.upper(), path) for path, verbs in openapi_fixed.PATHS.items() for verb in verbs}

    assert routes - predictions == {(method.verb, method.route) for method in METHODS if method.verb}
    assert {path for _, path in predictions} - {"/health/live", "/health/ready", "/v1/login"} == set(PREDICTIONS)


def test_the_running_house_has_no_other_grpc_services(house: House) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(house.channel)
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    (answer,) = stub.ServerReflectionInfo(asked, metadata=[("authorization", f"Bearer {house.estate.key}")])
    found = {service.name for service in answer.list_services_response.service}

    ours = {method.descriptor.containing_service.full_name for method in METHODS}
    standard = {"inference.GRPCInferenceService", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert found - standard == ours


@each(method for method in METHODS if method.policy.effect == options_pb2.EFFECT_SAFE and name_of(method) != "TailLogs")
def test_the_owner_finds_what_he_made(house: House, method: Method) -> None:
    assert [reply.code for reply in house.both(method, house.estate.key)] == ["ok", "ok"]


@each(METHODS)
def test_without_a_key_nothing_answers(house: House, method: Method) -> None:
    replies = house.both(method, "")

    assert [(reply.code, reply.status) for reply in replies] == [("unauthenticated", 401)] * 2
    assert not any(MARK in reply.detail for reply in replies)


def test_another_tenant_lists_decisions_on_his_own_calls_only(house: House) -> None:
    """They name what he asked for, whosever it is, so they are not in the test below."""
    decisions = next(method for method in METHODS if name_of(method) == "ListDecisions")
    stranger = house.keys["stranger"]
    assert house.http.get("/v1/models/heirloom", headers=bearer(stranger)).status_code == 404
    listed = house.http.get("/v1/api-keys", headers=bearer(stranger)).json()
    his = {f"key:{key['api_key']}" for key in listed["api_keys"]}
    for ask in range(2):  # over both doors; decisions are kept a moment after they were made
        callers: set[str] = set()
        end = time.monotonic() + 30
        while not callers and time.monotonic() < end:
            callers = set(re.findall(r'principal"?: ?"(.+?)"', house.both(decisions, stranger)[ask].text))
        assert callers
        assert callers <= his


@each(method for method in METHODS if name_of(method) not in MAKES | {"ListDecisions"})
def test_another_tenant_finds_nothing(house: House, method: Method) -> None:
    stranger = house.keys["stranger"]
    replies, missing = house.both(method, stranger), house.both(method, stranger, made_up(house.estate))
    if name_of(method) in OWN:
        assert [reply.code for reply in replies] == ["ok", "ok"]
        assert not [text for text in house.estate.unique() if text in "".join(reply.text for reply in replies)]
        assert replies == missing
        return
    assert [reply.code for reply in replies] == [REFUSED.get(name_of(method), "not_found")] * 2
    assert [told(reply, house.estate) for reply in replies] == [(reply.code, reply.detail) for reply in missing]


def made_up(estate: Estate) -> Estate:
    """Ids of the same form that nobody ever had."""
    changed = {name: value if name == "version" else _other(value) for name, value in estate.ids.items()}
    return replace(estate, ids=changed)


def _other(text: str) -> str:
    at = 10 if text.startswith("sha256:") else 4
    return f"{text[:at]}0000{text[at + 4 :]}"


def told(reply: Reply, estate: Estate) -> tuple[str, str]:
    """What would be said if the ids were those that nobody ever had: a stranger must see no difference."""
    detail, nowhere = reply.detail, made_up(estate)
    for name, value in sorted(estate.ids.items(), key=lambda pair: -len(str(pair[1]))):
        detail = detail.replace(str(value), str(nowhere.ids[name]))
    return reply.code, detail


@each(method for method in METHODS if method.owner != "gateway" and name_of(method) not in MAKES)
def test_another_project_of_the_tenant_is_another_world(house: House, method: Method) -> None:
    for reply in house.both(method, house.estate.key, x_project="elsewhere"):
        if name_of(method) in OWN:
            assert reply.code == "ok", reply
            assert not [text for text in house.estate.unique() if text in reply.text]
        else:
            assert reply.code == REFUSED.get(name_of(method), "not_found"), reply


@each(METHODS)
def test_a_key_that_may_do_everything_else_is_refused(house: House, method: Method) -> None:
    permission = method.policy.permission
    if not permission:
        assert name_of(method) in ("WhoAmI", "GetReceiptKey")
        return
    for reply in house.both(method, house.key_without(permission)):
        assert (reply.code, reply.status) == ("forbidden", 403), reply
        assert reply.detail == f"{permission} is not permitted"
        assert MARK not in reply.detail


@each(METHODS)
def test_each_role_is_let_in_and_refused_as_it_says(house: House, method: Method) -> None:
    """Every route x every built-in role x its own tenant and another one, over both doors."""
    permission, safe = method.policy.permission, method.policy.effect == options_pb2.EFFECT_SAFE
    other = "maker" if name_of(method) in MAKES else "stranger"
    expected, found = {}, {}
    for role in ROLES:
        held = house.may(role, permission)
        tenants = ["owner", other] if safe or not held else [other]  # who may change something asks for nothing here
        for tenant in tenants:
            replies = house.both(method, house.key_with(tenant, role))
            found[tenant, role] = {_refusal(reply) for reply in replies}
            expected[tenant, role] = {"" if held else f"{permission} is not permitted"}
            if held and tenant != "maker":
                outcome = "ok" if tenant == "owner" or name_of(method) in OWN else "not_found"
                assert {reply.code for reply in replies} == {REFUSED.get(name_of(method), outcome)}, (role, replies)

    assert found == expected


def _refusal(reply: Reply) -> str:
    """What is said to one who lacks a permission; empty for all else."""
    return reply.detail if reply.code == "forbidden" and reply.detail.endswith("is not permitted") else ""


PREDICTIONS = {
    "/v2": "",
    "/v2/health/live": "",
    "/v2/health/ready": "",
    "/v2/models/{model}": "GET",
    "/v2/models/{model}/ready": "GET",
    "/v2/models/{model}/infer": "POST",
    "/v2/models/{model}/versions/{version}": "GET",
    "/v2/models/{model}/versions/{version}/ready": "GET",
    "/v2/models/{model}/versions/{version}/infer": "POST",
}
TENSORS = {"inputs": [{"name": "hour", "datatype": "FP64", "shape": [1, 1], "data": [7.0]}]}


def predict(house: House, path: str, key: str, **headers: str) -> tuple[int, str]:
    verb = PREDICTIONS[path] or "GET"
    there = path.replace("{model}", MARK).replace("{version}", "1")
    options: dict[str, Any] = {"json": TENSORS} if verb == "POST" else {}
    answer = house.http.request(verb, there, headers=bearer(key) | headers, **options)
    return answer.status_code, str(answer.json().get("code", "ok"))


@pytest.mark.parametrize("path", PREDICTIONS)
def test_a_model_answers_its_tenant_and_project_and_who_may_ask_it(house: House, path: str) -> None:
    of_a_model = bool(PREDICTIONS[path])
    anyone = (200, "ok")

    assert predict(house, path, house.estate.key) == anyone
    assert predict(house, path, "") == (401, "unauthenticated")
    foreign = predict(house, path, house.keys["stranger"])
    assert foreign == ((404, "not_found") if of_a_model else anyone)
    elsewhere = predict(house, path, house.estate.key, **{"x-project": "elsewhere"})
    assert elsewhere == ((404, "not_found") if of_a_model else anyone)
    lacking = predict(house, path, house.key_without("models.infer"))
    assert lacking == ((403, "forbidden") if of_a_model else anyone)


@pytest.mark.parametrize("path", PREDICTIONS)
def test_a_model_answers_the_roles_that_may_ask_it(house: House, path: str) -> None:
    lets_in = {role: house.may(role, "models.infer") or not PREDICTIONS[path] for role in ROLES}

    assert {role: predict(house, path, house.key_with("owner", role))[0] == 200 for role in ROLES} == lets_in


@pytest.mark.parametrize("name", ["ModelReady", "ModelMetadata", "ModelInfer"])
def test_a_model_answers_them_over_grpc_too(house: House, name: str) -> None:
    keys = {"": "unauthenticated", house.keys["stranger"]: "not_found", house.key_without("models.infer"): "forbidden"}

    assert {key: ask_model(house, name, key) for key in keys} == keys
    assert ask_model(house, name, house.estate.key) == "ok"
    assert ask_model(house, name, house.estate.key, project="elsewhere") == "not_found"


def ask_model(house: House, name: str, key: str, project: str = "default") -> str:
    field = "model_name" if name == "ModelInfer" else "name"
    fields: dict[str, Any] = {field: MARK}
    if name == "ModelInfer":
        fields["inputs"] = [{"name": "hour", "datatype": "FP64", "shape": [1, 1], "contents": {"fp64_contents": [7]}}]
    request = message(f"{name}Request")(**fields).SerializeToString()
    metadata = (("authorization", f"Bearer {key}"), ("x-project", project)) if key else ()
    try:
        house.channel.unary_unary(f"/{SERVICE}/{name}")(request, timeout=10, metadata=metadata)
    except grpc.RpcError as error:
        return failure_of(error, "gateway").code.text
    return "ok"


@each(method for method in METHODS if name_of(method) in MAKES)
def test_names_that_others_have_are_free(house: House, method: Method) -> None:
    request = request_of(method, house.estate)
    made = ask_rest(house.http, method, request, house.keys["twin"])

    assert made.code == "ok", made
    assert house.estate.tenant not in made.text


def test_after_all_that_the_owner_has_what_he_had(house: House) -> None:
    for method in METHODS:
        if name_of(method).startswith(("Get", "Download", "ReadRows")):
            reply = ask_rest(house.http, method, request_of(method, house.estate), house.estate.key)
            assert reply.code == "ok", reply
    with house.server.client(house.estate.key) as client:
        assert [(model.model, model.latest_version) for model in client.models.iterate_models()] == [(MARK, 1)]


def test_a_method_that_nobody_gave_ids_to_fails_here() -> None:
    nothing = Estate(Server(Path()), "", "")
    without = PUBLIC["/aimass.v1.Models/GetModel"]

    with pytest.raises(AssertionError, match="no id for model of GetModel"):
        request_of(without, nothing)
