"""What the house reads out of its own protos."""

import pytest

from aimass.v1 import access_pb2, data_events_pb2, models_pb2, pipelines_pb2, registry_events_pb2
from services.kit import contract


def named(path: str) -> contract.Method:
    return contract.all_methods()[f"/aimass.v1.{path}"]


def test_a_method_has_the_route_that_its_proto_declares() -> None:
    method = named("Models/GetModel")

    assert (method.verb, method.route, method.body) == ("GET", "/v1/models/{model}", "")
    assert (method.owner, method.public, method.policy.permission) == ("registry", True, "models.get")


def test_a_body_may_be_everything_or_one_field() -> None:
    assert named("Models/CreateModel").body == "*"
    assert "data" not in named("Models/CreateModel").route


def test_a_method_without_a_route_has_none() -> None:
    publish = named("Bus/Publish")

    assert (publish.verb, publish.route, publish.body, publish.public) == ("", "", "", False)


def test_a_right_on_one_object_is_for_what_the_request_names() -> None:
    assert named("Models/GetModel").thing(models_pb2.GetModelRequest(model="late")) == "models/late"
    assert named("Models/GetModel").thing(models_pb2.GetModelRequest()) == ""
    assert named("Models/ListModels").thing(models_pb2.ListModelsRequest()) == ""


def test_a_method_that_names_further_objects_has_none_of_its_own() -> None:
    method = named("Pipelines/CreatePipeline")

    assert method.thing(pipelines_pb2.CreatePipelineRequest(pipeline="late")) == ""
    assert method.resource(pipelines_pb2.CreatePipelineRequest(pipeline="late")) == "pipelines/late"


def test_a_deadline_is_ten_seconds_unless_the_proto_says_so() -> None:
    assert named("Bus/Publish").deadline == 10.0
    assert named("Bus/Fetch").deadline == 86400.0


def test_long_work_is_what_answers_with_an_operation() -> None:
    assert named("Jobs/SubmitJob").long_work
    assert not named("Operations/GetOperation").long_work
    assert not named("Models/GetModel").long_work


def test_a_resource_is_filled_in_from_the_request() -> None:
    method = named("Models/GetModel")

    assert method.resource(models_pb2.GetModelRequest(model="late")) == "models/late"
    assert method.resource(models_pb2.GetModelRequest()) == "models/"


@pytest.mark.parametrize(
    ("message", "topic"),
    [
        (registry_events_pb2.DESCRIPTOR, "aimass.registry.v1"),
        (data_events_pb2.DESCRIPTOR, "aimass.data.v1"),
    ],
)
def test_events_go_to_the_topic_of_their_service(message: object, topic: str) -> None:
    kinds = list(message.message_types_by_name.values())  # type: ignore[attr-defined]

    assert {contract.topic(kind) for kind in kinds} == {topic}


def test_comments_are_found_by_the_full_name_of_what_they_describe() -> None:
    comments = contract.comments()

    assert comments["aimass.v1.Models"]
    assert "not_found" in comments["aimass.v1.Sources.GetSource"]
    assert "\n" not in "".join(comments.values())
    assert all(comments[method.descriptor.full_name] for method in contract.all_methods().values() if method.public)


def test_the_services_of_the_contract_are_all_of_the_house() -> None:
    found = contract.services()

    assert {"aimass.v1.Models", "aimass.v1.Jobs", "aimass.v1.Bus", "aimass.v1.Operations"} <= set(found)
    assert len(set(found)) == len(found)


def test_a_service_that_is_not_there_is_a_bug_of_the_caller() -> None:
    with pytest.raises(KeyError):
        contract.methods("aimass.v1.Nothing")


def test_paths_name_service_and_method() -> None:
    assert [m.path for m in contract.methods("aimass.v1.Bus")] == [
        "/aimass.v1.Bus/Publish",
        "/aimass.v1.Bus/Fetch",
        "/aimass.v1.Bus/Commit",
    ]
    assert contract.methods("aimass.v1.Access")[0].takes.file.name == access_pb2.DESCRIPTOR.name
