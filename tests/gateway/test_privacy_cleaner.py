"""Filters at the doors, without a door: which texts of messages and tensors they see, and what they leave alone."""

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from aimass.v1 import access_pb2, jobs_pb2, models_pb2, privacy_pb2
from services.gateway.privacy.cleaner import Cleaner
from services.kit import contract
from services.kit.errors import InvalidValue, NotFound
from services.kit.privacy.filtering import Action, Rule, Rules
from services.kit.privacy.messages import clean
from services.kit.privacy.policies import Policies, Policy, policy_of
from services.kit.tensors import Tensor

MASK, REFUSE = Rules((Rule("email", Action.MASK),)), Rules((Rule("email", Action.REFUSE),))
METHODS = contract.all_methods()


def cleaner(rules: Rules = MASK, **where: Any) -> Cleaner:
    policies = Policies(lambda purpose: purpose.encode())
    policies.take([Policy("acme", "mine", 1, rules=rules, **(where or {"methods": ("*",), "models": ("*",)}))])
    return Cleaner(policies)


def tensor(*texts: bytes) -> Tensor:
    return Tensor("t", "BYTES", (len(texts),), b"".join(len(t).to_bytes(4, "little") + t for t in texts))


async def test_each_text_of_a_tensor_is_filtered_and_the_rest_stays() -> None:
    numbers = Tensor("n", "FP64", (1,), b"a@b.dexx")
    found = await cleaner().inputs("acme", "fraud", [numbers, tensor(b"a@b.de", b"x", b"\xff\xfe c@d.de", b"")])

    assert found == [numbers, tensor(b"[email]", b"x", b"\xff\xfe [email]", b"")]


async def test_many_texts_are_filtered_beside_the_loop() -> None:
    found = await cleaner().inputs("acme", "fraud", [tensor(*[b"a@b.de"] * 500)])

    assert found == [tensor(*[b"[email]"] * 500)]


async def test_a_refused_text_is_named_by_its_place() -> None:
    with pytest.raises(InvalidValue) as caught:
        await cleaner(REFUSE).inputs("acme", "fraud", [tensor(b"x"), tensor(b"x", b"a@b.de")])
    assert caught.value.violations[0].pointer == "/inputs/1/data/1"


async def test_texts_whose_lengths_lie_are_refused() -> None:
    with pytest.raises(InvalidValue, match="must have each text after its length"):
        await cleaner().inputs("acme", "fraud", [Tensor("t", "BYTES", (1,), b"\x09\x00\x00\x00a@b.de")])


@pytest.mark.parametrize(("tenant", "model"), [("other", "fraud-eu"), ("acme", "late")])
async def test_other_tenants_and_models_pay_nothing(tenant: str, model: str) -> None:
    given = [tensor(b"a@b.de")]

    assert await cleaner(models=("fraud-*",)).inputs(tenant, model, given) is given


async def test_answers_are_filtered_where_the_filter_says_so_and_never_refused() -> None:
    method = METHODS["/aimass.v1.Models/GetModel"]
    reply = models_pb2.Model(model="fraud", description="of a@b.de", etag="1").SerializeToString()
    everywhere: dict[str, Any] = {"methods": ("Models/*",), "models": ("*",), "answers": True}

    assert await cleaner().answer(method, reply, "acme") is reply
    found = models_pb2.Model.FromString(await cleaner(REFUSE, **everywhere).answer(method, reply, "acme"))
    assert (found.model, found.description, found.etag) == ("fraud", "of [email]", "1")
    assert await cleaner(**everywhere).outputs("acme", "fraud", [tensor(b"a@b.de")]) == [tensor(b"[email]")]


def test_texts_in_messages_lists_maps_and_structs_are_filtered() -> None:
    through = cleaner().recorded("acme")
    assert through
    struct = Struct()
    struct.update({"a@b.de": {"deep": ["x", "c@d.de"]}, "n": 1})
    clean(struct, through)
    job = jobs_pb2.SubmitJobRequest()
    job.spec.model = "a@b.de"
    clean(job, through)

    assert MessageToDict(struct) == {"[email]": {"deep": ["x", "[email]"]}, "n": 1}
    assert job.spec.model == "[email]"


def test_secrets_and_what_we_gave_out_stay() -> None:
    through = cleaner().recorded("acme")
    assert through
    made = access_pb2.CreatedApiKey(secret="a@b.de", api_key=access_pb2.ApiKey(display_name="a@b.de"))
    clean(made, through)
    page = privacy_pb2.ListPrivacyFiltersResponse(next_page_token="a@b.de")
    clean(page, through)

    assert (made.secret, made.api_key.display_name, page.next_page_token) == ("a@b.de", "[email]", "a@b.de")


def test_words_of_failures_and_names_of_requests_are_filtered() -> None:
    found = cleaner().failure("acme", NotFound("there is no model a@b.de"))

    assert found.detail == "there is no model [email]"
    assert cleaner().named("acme", "r-1") == "r-1"
    assert cleaner(Rules((Rule("card", Action.MASK),))).named("acme", "4111-1111-1111-1111") != "4111-1111-1111-1111"


def test_an_older_state_of_a_filter_does_not_come_back() -> None:
    policies = Policies(lambda purpose: b"")
    policies.take([Policy("acme", "mine", 3, models=("*",), rules=MASK)])
    policies.take([Policy("acme", "mine", 2, deleted=True)])
    assert policies.model("acme", "fraud")
    policies.take([Policy("acme", "mine", 4, deleted=True)])
    assert policies.model("acme", "fraud") is None


def test_a_filter_on_the_wire_is_the_same_filter() -> None:
    wire = privacy_pb2.PrivacyFilter(privacy_filter="mine", streams=["trainer/*"], answers=True)
    wire.rules.add(detector="staff", action=privacy_pb2.PRIVACY_ACTION_HASH, pattern="EMP")
    found = policy_of(wire, "acme", 7)

    assert found == Policy("acme", "mine", 7, (), (), ("trainer/*",), True, Rules((Rule("staff", Action.HASH, "EMP"),)))
