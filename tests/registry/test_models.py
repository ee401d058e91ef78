from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import models_pb2 as pb
from aimass.v1.artifacts_pb2 import ArtifactFile
from aimass.v1.registry_events_pb2 import ModelVersionChanged
from services.kit.digests import digest_of
from services.kit.errors import Failure
from tests.support import models
from tests.support.house import House, house
from tests.support.models import upload
from tests.support.tenants import Tenant, code_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def create(tenant: Tenant, model: str, **metadata: str) -> pb.Model:
    request = pb.CreateModelRequest(model=model, description="is it late?")
    made = await tenant.models(**metadata).CreateModel(request)
    assert isinstance(made, pb.Model)
    return made


def request(model: str, **digests: str) -> pb.CreateModelVersionRequest:
    """Of files: keywords are names with `_` for the dot."""
    files = [ArtifactFile(name=name.replace("_", "."), digest=digest) for name, digest in digests.items()]
    return pb.CreateModelVersionRequest(model=model, files=files, metrics={"auc": 0.7}, card="# Late")


async def test_a_model_is_read_back(acme: Tenant) -> None:
    made = await create(acme, "late")

    assert await acme.models().GetModel(pb.GetModelRequest(model="late")) == made
    assert (made.description, made.latest_version, made.etag) == ("is it late?", 0, "1")


async def test_a_name_is_taken_also_by_a_deleted_model(acme: Tenant) -> None:
    made = await create(acme, "late")

    assert await code_of(create(acme, "late")) == "already_exists"
    await acme.models(if_match=made.etag).DeleteModel(pb.DeleteModelRequest(model="late"))
    assert await code_of(create(acme, "late")) == "already_exists"


async def test_a_repeat_answers_the_same_and_makes_nothing(acme: Tenant) -> None:
    first = await create(acme, "late", idempotency_key="k")

    assert await create(acme, "late", idempotency_key="k") == first
    assert await code_of(create(acme, "early", idempotency_key="k")) == "key_reused"


async def test_models_are_listed_by_name_a_page_at_a_time(acme: Tenant) -> None:
    for name in ("c", "a", "b"):
        await create(acme, name)
    first = await acme.models().ListModels(pb.ListModelsRequest(page_size=2))
    second = await acme.models().ListModels(pb.ListModelsRequest(page_size=2, page_token=first.next_page_token))

    assert [m.model for m in (*first.models, *second.models)] == ["a", "b", "c"]
    assert not second.next_page_token
    assert await code_of(acme.models().ListModels(pb.ListModelsRequest(page_token="x"))) == "invalid_value"
    assert await code_of(acme.models().ListModels(pb.ListModelsRequest(page_size=-1))) == "invalid_value"


async def test_a_deleted_model_is_hidden_until_it_comes_back(acme: Tenant) -> None:
    await acme.add("late", models.logistic())
    stub = acme.models(if_match='"1"')
    deleted = await stub.DeleteModel(pb.DeleteModelRequest(model="late"))

    assert deleted.HasField("delete_time")
    assert await code_of(stub.GetModel(pb.GetModelRequest(model="late"))) == "not_found"
    assert await code_of(acme.version("late", 1)) == "not_found"
    assert await code_of(stub.DeleteModel(pb.DeleteModelRequest(model="late"))) == "not_found"
    assert not (await stub.ListModels(pb.ListModelsRequest())).models
    assert (await stub.ListModels(pb.ListModelsRequest(show_deleted=True))).models == [deleted]

    back = await stub.UndeleteModel(pb.UndeleteModelRequest(model="late"))
    assert not back.HasField("delete_time")
    assert await stub.UndeleteModel(pb.UndeleteModelRequest(model="late")) == back
    assert (await acme.version("late", 1)).stage == pb.STAGE_CANDIDATE


async def test_deleting_needs_the_right_etag(acme: Tenant) -> None:
    await create(acme, "late")
    delete = pb.DeleteModelRequest(model="late")

    assert await code_of(acme.models().DeleteModel(delete)) == "etag_required"
    assert await code_of(acme.models(if_match="7").DeleteModel(delete)) == "etag_mismatch"


@pytest.mark.parametrize("name", ["", "Late", "../late", "a" * 64, "1late"])
async def test_a_name_that_is_none_is_refused(acme: Tenant, name: str) -> None:
    assert await code_of(create(acme, name)) == "invalid_name"


async def test_a_version_says_what_it_is(acme: Tenant) -> None:
    await create(acme, "late")
    graph, card = (
        await upload(acme.house, models.logistic(), acme.name),
        await upload(acme.house, b"# Hi", acme.name),
    )

    made = await acme.models().CreateModelVersion(request("late", model_onnx=graph, card_md=card))

    assert (made.version, made.stage, made.etag, made.card) == (1, pb.STAGE_CANDIDATE, "1", "# Late")
    assert dict(made.metrics) == {"auc": 0.7}
    assert [(f.name, f.size, f.media_type) for f in made.files] == [
        ("model.onnx", len(models.logistic()), "application/octet-stream"),
        ("card.md", 4, "text/markdown"),
    ]
    assert made.signature.inputs == [pb.TensorSpec(name="x", datatype="FP32", shape=[-1, 4])]
    assert made.signature.outputs == [pb.TensorSpec(name="probability", datatype="FP32", shape=[-1, 1])]
    assert made.signature.batch_invariant
    assert made.signature.checked_on.startswith("onnxruntime ")
    assert await acme.version("late", 1) == made


async def test_the_digest_of_a_version_is_that_of_its_manifest(acme: Tenant) -> None:
    await acme.register("late", models.logistic())
    manifest = await acme.house.runtime.blobs.get(acme.name, (await acme.version("late", 1)).digest)

    assert digest_of(models.logistic()).encode() in manifest
    assert b'"batch_invariant":true' in manifest


async def test_numbers_count_up_and_are_not_used_again(acme: Tenant) -> None:
    await acme.add("late", *(models.logistic(seed=seed) for seed in range(3)))
    await acme.models(if_match="1").DeleteModelVersion(pb.DeleteModelVersionRequest(model="late", version=3))

    assert await acme.register("late", models.logistic()) == 4
    assert (await acme.models().GetModel(pb.GetModelRequest(model="late"))).latest_version == 4


async def test_versions_are_listed_newest_first(acme: Tenant) -> None:
    await acme.add("late", *(models.logistic(seed=seed) for seed in range(3)))
    list_them = pb.ListModelVersionsRequest
    first = await acme.models().ListModelVersions(list_them(model="late", page_size=2))
    token = first.next_page_token
    second = await acme.models().ListModelVersions(list_them(model="late", page_size=2, page_token=token))

    assert [v.version for v in (*first.versions, *second.versions)] == [3, 2, 1]
    assert await code_of(acme.models().ListModelVersions(list_them(model="early"))) == "not_found"


async def test_a_deleted_version_comes_back_as_a_candidate(acme: Tenant) -> None:
    await acme.add("late", models.logistic())
    stub, delete = acme.models(if_match="1"), pb.DeleteModelVersionRequest(model="late", version=1)
    deleted = await stub.DeleteModelVersion(delete)

    assert (deleted.stage, deleted.HasField("delete_time")) == (pb.STAGE_DELETED, True)
    assert await code_of(acme.version("late", 1)) == "not_found"
    assert await code_of(stub.DeleteModelVersion(delete)) == "not_found"
    assert not (await stub.ListModelVersions(pb.ListModelVersionsRequest(model="late"))).versions
    shown = await stub.ListModelVersions(pb.ListModelVersionsRequest(model="late", show_deleted=True))
    assert shown.versions == [deleted]

    undelete = pb.UndeleteModelVersionRequest(model="late", version=1)
    back = await stub.UndeleteModelVersion(undelete)
    assert (back.stage, back.etag, back.HasField("delete_time")) == (pb.STAGE_CANDIDATE, "3", False)
    assert await stub.UndeleteModelVersion(undelete) == back


async def test_deleting_a_version_needs_the_right_etag(acme: Tenant) -> None:
    await acme.add("late", models.logistic())
    delete = pb.DeleteModelVersionRequest(model="late", version=1)

    assert await code_of(acme.models().DeleteModelVersion(delete)) == "etag_required"
    assert await code_of(acme.models(if_match="2").DeleteModelVersion(delete)) == "etag_mismatch"


async def test_a_version_that_is_not_there_is_named(acme: Tenant) -> None:
    await acme.add("late", models.logistic())

    with pytest.raises(Failure, match=r"^late has no version 9$"):
        await acme.version("late", 9)
    with pytest.raises(Failure, match=r"^there is no model early$"):
        await acme.version("early", 1)


REFUSED = {
    "custom": (models.custom(), "invalid_value"),
    "external": (models.external(), "invalid_value"),
    "broken": (models.broken(), "invalid_value"),
    "pickle": (b"\x80\x04\x8c\x05posix\x94.", "unsupported_format"),
    "zip": (b"PK\x03\x04" + bytes(99), "unsupported_format"),
    "text": (b"hello", "unsupported_format"),
}


@pytest.mark.parametrize(("data", "code"), REFUSED.values(), ids=REFUSED)
async def test_a_graph_that_must_not_be_loaded_becomes_no_version(acme: Tenant, data: bytes, code: str) -> None:
    assert await code_of(acme.register("late", data)) == code
    assert (await acme.models().GetModel(pb.GetModelRequest(model="late"))).latest_version == 0


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("card_md", b"\xff\xfe", "unsupported_format"),
        ("notes_txt", b"a\0b", "unsupported_format"),
        ("metrics_json", b"{a:", "invalid_value"),
    ],
)
async def test_side_files_must_be_what_their_names_say(acme: Tenant, name: str, data: bytes, code: str) -> None:
    await create(acme, "late")
    graph = await upload(acme.house, models.logistic(), acme.name)
    digest = await upload(acme.house, data, acme.name)

    assert await code_of(acme.models().CreateModelVersion(request("late", model_onnx=graph, **{name: digest}))) == code


async def test_files_must_have_been_uploaded_by_the_tenant(acme: Tenant, other: Tenant) -> None:
    await create(acme, "late")
    digest = await upload(other.house, models.logistic(), other.name)

    with pytest.raises(Failure, match=r"model\.onnx is not uploaded") as caught:
        await acme.models().CreateModelVersion(request("late", model_onnx=digest))

    assert [v.pointer for v in caught.value.violations] == ["/files/0/digest"]


async def test_metrics_must_be_numbers(acme: Tenant) -> None:
    await create(acme, "late")
    wrong = pb.CreateModelVersionRequest(
        model="late", files=[ArtifactFile(name="model.onnx", digest="sha256:a")], metrics={"auc": float("nan")}
    )

    assert await code_of(acme.models().CreateModelVersion(wrong)) == "invalid_value"


async def test_a_version_needs_its_model(acme: Tenant) -> None:
    digest = await upload(acme.house, models.logistic(), acme.name)

    assert await code_of(acme.models().CreateModelVersion(request("late", model_onnx=digest))) == "not_found"


async def test_a_repeat_makes_one_version_also_when_its_model_is_gone(acme: Tenant) -> None:
    made = await create(acme, "late")
    digest = await upload(acme.house, models.logistic(), acme.name)
    stub = acme.models(idempotency_key="k")
    first = await stub.CreateModelVersion(request("late", model_onnx=digest))

    assert await stub.CreateModelVersion(request("late", model_onnx=digest)) == first
    deleting = acme.models(if_match=str(int(made.etag) + 1))
    await deleting.DeleteModel(pb.DeleteModelRequest(model="late"))
    assert await stub.CreateModelVersion(request("late", model_onnx=digest)) == first


async def test_another_tenant_finds_nothing(acme: Tenant, other: Tenant) -> None:
    await acme.register("late", models.logistic())
    stub = other.models(if_match="1")
    calls = [
        stub.GetModel(pb.GetModelRequest(model="late")),
        stub.DeleteModel(pb.DeleteModelRequest(model="late")),
        stub.UndeleteModel(pb.UndeleteModelRequest(model="late")),
        stub.ListModelVersions(pb.ListModelVersionsRequest(model="late")),
        stub.GetModelVersion(pb.GetModelVersionRequest(model="late", version=1)),
        stub.DeleteModelVersion(pb.DeleteModelVersionRequest(model="late", version=1)),
        stub.UndeleteModelVersion(pb.UndeleteModelVersionRequest(model="late", version=1)),
    ]

    assert [await code_of(call) for call in calls] == ["not_found"] * len(calls)
    assert not (await stub.ListModels(pb.ListModelsRequest(show_deleted=True))).models


async def test_another_project_finds_nothing(registry: House, acme: Tenant) -> None:
    from aimass.v1.models_pb2_grpc import ModelsStub

    await create(acme, "late")
    stub = registry.stub(ModelsStub, "registry", tenant=acme.name, project="other")

    assert await code_of(stub.GetModel(pb.GetModelRequest(model="late"))) == "not_found"


async def test_a_new_version_is_told_with_its_full_state(tmp_path: Path) -> None:
    async with house(tmp_path, "registry") as running:
        acme = Tenant(running)
        await acme.register("late", models.logistic())
        (event,) = await running.heard(ModelVersionChanged)
        made = await acme.version("late", 1)

        assert (event.version, event.generation) == (made, 1)
    async with house(tmp_path, "registry") as running:
        assert await Tenant(running).version("late", 1) == made


async def uploaded(tenant: Tenant) -> pb.CreateModelVersionRequest:
    await create(tenant, "late")
    return request("late", model_onnx=await upload(tenant.house, models.logistic(), tenant.name))


async def test_how_a_version_wants_to_be_run_goes_with_it_to_its_release(acme: Tenant) -> None:
    asked = await uploaded(acme)
    asked.serving.CopyFrom(pb.ServingSettings(instances=2, batch_delay_us=500))
    made = await acme.models().CreateModelVersion(asked)
    await acme.promote("late", 1)

    assert made.serving == (await acme.version("late", 1)).serving == asked.serving
    assert (await acme.release("late")).desired.serving == asked.serving


async def test_a_version_says_what_answers_while_it_cannot(acme: Tenant) -> None:
    asked = await uploaded(acme)
    asked.serving.CopyFrom(pb.ServingSettings(cached_seconds=60, previous_version=True, smaller_model="tiny"))
    await acme.models().CreateModelVersion(asked)
    await acme.promote("late", 1)

    assert (await acme.release("late")).desired.serving == asked.serving


@pytest.mark.parametrize(
    "serving",
    [
        {"instances": 17},
        {"max_batch_rows": -1},
        {"batch_delay_us": 100_001},
        {"cached_seconds": 86_401},
        {"smaller_model": "late"},
    ],
)
async def test_what_nobody_would_run_is_refused(acme: Tenant, serving: dict[str, Any]) -> None:
    asked = await uploaded(acme)
    asked.serving.CopyFrom(pb.ServingSettings(**serving))
    with pytest.raises(Failure) as refused:
        await acme.models().CreateModelVersion(asked)

    assert (refused.value.code.text, refused.value.violations[0].pointer) == (
        "invalid_value",
        f"/serving/{next(iter(serving))}",
    )


async def test_a_version_keeps_its_labels(acme: Tenant) -> None:
    asked = await uploaded(acme)
    asked.labels.update({"risk": "high", "team": "fraud.eu"})
    made = await acme.models().CreateModelVersion(asked)

    assert made.labels == (await acme.version("late", 1)).labels == {"risk": "high", "team": "fraud.eu"}


@pytest.mark.parametrize(("label", "text"), [("Risk", "high"), ("risk", "very high"), ("risk", ""), ("", "high")])
async def test_what_is_no_label_is_refused(acme: Tenant, label: str, text: str) -> None:
    asked = await uploaded(acme)
    asked.labels[label] = text
    with pytest.raises(Failure) as failure:
        await acme.models().CreateModelVersion(asked)

    assert (failure.value.code.text, failure.value.violations[0].pointer) == ("invalid_value", f"/labels/{label}")


async def test_a_version_that_says_nothing_of_it_has_no_serving_settings(acme: Tenant) -> None:
    await acme.add("late", models.logistic())

    assert not (await acme.version("late", 1)).HasField("serving")
