"""How a tenant says which versions share the requests for a model."""

import math
from pathlib import Path
from typing import Any

import pytest

from aimass.v1 import models_pb2
from aimass.v1 import releases_pb2 as pb
from aimass.v1.registry_events_pb2 import ReleaseChanged
from aimass.v1.releases_pb2_grpc import ReleasesStub
from services.kit.errors import Failure
from tests.support import models
from tests.support.house import House, house
from tests.support.tenants import Tenant, code_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def serving(tenant: Tenant, count: int = 3) -> Tenant:
    """Version 1 of several serves."""
    await tenant.add("late", *(models.logistic(seed=seed) for seed in range(count)))
    await tenant.serve("late", 1)
    return tenant


def rule(*shares: tuple[int, float], **fields: Any) -> pb.TrafficRule:
    return pb.TrafficRule(shares=[pb.TrafficShare(version=v, percent=p) for v, p in shares], **fields)


async def share(tenant: Tenant, *rules: pb.TrafficRule, etag: str = "*", **fields: Any) -> pb.Traffic:
    request = pb.UpdateTrafficRequest(model="late", rules=rules, **fields)
    found = await tenant.releases(**{"if-match": etag}).UpdateTraffic(request)
    assert isinstance(found, pb.Traffic)
    return found


async def traffic(tenant: Tenant) -> pb.Traffic:
    found = await tenant.releases().GetTraffic(pb.GetTrafficRequest(model="late"))
    assert isinstance(found, pb.Traffic)
    return found


async def test_before_anything_is_said_there_is_no_rule(acme: Tenant) -> None:
    await serving(acme)
    found = await traffic(acme)

    assert (found.model, list(found.rules), found.etag, found.HasField("update_time")) == ("late", [], "0", False)


async def test_rules_are_kept_as_they_were_said(acme: Tenant) -> None:
    await serving(acme)
    rules = [
        rule((2, 100.0), header="X-Cohort", values=["beta", "gamma"]),
        rule((3, 100.0), callers=["key:abcd1234", "user:*"]),
        rule((2, 10.5), (3, 0.1), sticky=pb.STICKY_HEADER, sticky_header="X-Customer"),
    ]
    said = await share(acme, *rules, balancing=pb.BALANCING_WEIGHTED)

    rules[0].header, rules[2].sticky_header = "x-cohort", "x-customer"
    assert (list(said.rules), said.balancing, said.etag) == (rules, pb.BALANCING_WEIGHTED, "1")
    assert await traffic(acme) == said
    release = await acme.release("late")
    assert release.traffic == said
    assert [version.version for version in release.shared] == [2, 3]
    assert release.shared[0].digest == (await acme.version("late", 2)).digest


async def test_who_did_not_see_the_last_change_changes_nothing(acme: Tenant) -> None:
    await serving(acme)
    await share(acme, rule((2, 10.0)), etag="0")

    assert await code_of(share(acme, rule((2, 20.0)), etag="0")) == "etag_mismatch"
    assert (await share(acme, rule((2, 20.0)), etag="1")).etag == "2"
    assert (await share(acme, rule((2, 20.0)), etag="2")).etag == "2"  # it is so already
    assert await code_of(acme.releases().UpdateTraffic(pb.UpdateTrafficRequest(model="late"))) == "etag_required"


async def test_a_promotion_keeps_the_rules_and_its_change_keeps_others_out(acme: Tenant) -> None:
    await serving(acme)
    traffic = await share(acme, rule((3, 10.0)))
    operation = await acme.promote("late", 2)

    assert await code_of(share(acme, rule((3, 20.0)))) == "in_progress"
    await acme.switch("late")
    await acme.ended(operation)
    release = await acme.release("late")
    assert (release.serving.version, release.traffic) == (2, traffic)


async def test_a_version_with_a_share_cannot_be_deleted_until_it_has_none(acme: Tenant) -> None:
    await serving(acme)
    await share(acme, rule((2, 10.0)))
    stub = acme.models(**{"if-match": "*"})
    delete = models_pb2.DeleteModelVersionRequest(model="late", version=2)
    assert await code_of(stub.DeleteModelVersion(delete)) == "failed_precondition"

    await share(acme)
    assert await code_of(stub.DeleteModelVersion(delete)) == "ok"
    assert await code_of(share(acme, rule((2, 10.0)))) == "not_found"


async def test_a_share_of_a_model_that_is_withdrawn_keeps_nothing(acme: Tenant) -> None:
    await serving(acme)
    await share(acme, rule((2, 10.0)))
    operation = await acme.withdraw("late")
    await acme.switch("late")
    await acme.ended(operation)

    delete = models_pb2.DeleteModelVersionRequest(model="late", version=2)
    assert await code_of(acme.models(**{"if-match": "*"}).DeleteModelVersion(delete)) == "ok"


async def test_what_was_deleted_meanwhile_has_no_share_of_what_serves_again(acme: Tenant) -> None:
    await serving(acme)
    await share(acme, rule((2, 10.0)))
    operation = await acme.withdraw("late")
    await acme.switch("late")
    await acme.ended(operation)
    stub = acme.models(**{"if-match": "*"})
    await stub.DeleteModelVersion(models_pb2.DeleteModelVersionRequest(model="late", version=2))

    promotion = pb.PromoteVersionRequest(model="late", version=1)
    assert await code_of(acme.releases().PromoteVersion(promotion)) == "failed_precondition"
    await share(acme)
    assert await code_of(acme.releases().PromoteVersion(promotion)) == "ok"


async def test_what_is_refused_keeps_no_version(acme: Tenant) -> None:
    await serving(acme)
    assert await code_of(share(acme, rule((2, 10.0), (9, 10.0)))) == "not_found"

    delete = models_pb2.DeleteModelVersionRequest(model="late", version=2)
    assert await code_of(acme.models(**{"if-match": "*"}).DeleteModelVersion(delete)) == "ok"


@pytest.mark.parametrize(
    ("wrong", "at"),
    [
        (rule(), "/rules/0/shares"),
        (rule((2, 0.0)), "/rules/0/shares/0/percent"),
        (rule((2, 101.0)), "/rules/0/shares/0/percent"),
        (rule((2, math.nan)), "/rules/0/shares/0/percent"),
        (rule((2, 60.0), (3, 50.0)), "/rules/0/shares"),
        (rule((2, 10.0), (2, 10.0)), "/rules/0/shares"),
        (rule((2, 10.0), header="x cohort"), "/rules/0/header"),
        (rule((2, 10.0), header="Authorization"), "/rules/0/header"),
        (rule((2, 10.0), values=["beta"]), "/rules/0/values"),
        (rule((2, 10.0), callers=["abcd1234"]), "/rules/0/callers/0"),
        (rule((2, 10.0), sticky=pb.STICKY_HEADER), "/rules/0/sticky_header"),
        (rule((2, 10.0), sticky_header="x-customer"), "/rules/0/sticky_header"),
    ],
)
async def test_what_cannot_be_is_refused_by_its_place(other: Tenant, wrong: pb.TrafficRule, at: str) -> None:
    with pytest.raises(Failure) as caught:
        await share(other, wrong)

    assert (caught.value.code.text, caught.value.violations[0].pointer) == ("invalid_value", at)


async def test_nobody_shares_what_was_never_promoted(acme: Tenant, other: Tenant) -> None:
    await serving(acme)

    assert await code_of(traffic(other)) == await code_of(share(other, rule((1, 10.0)))) == "not_found"


async def test_who_may_not_promote_may_not_share(acme: Tenant) -> None:
    await serving(acme)
    stub = acme.releases("releases.get", **{"if-match": "*"})

    assert await code_of(stub.UpdateTraffic(pb.UpdateTrafficRequest(model="late"))) == "forbidden"
    assert await code_of(stub.GetTraffic(pb.GetTrafficRequest(model="late"))) == "ok"


async def test_who_asks_for_all_releases_is_told_the_rules(registry: House, acme: Tenant) -> None:
    await serving(acme)
    traffic = await share(acme, rule((2, 12.5), sticky=pb.STICKY_CALLER))
    stub = registry.stub(ReleasesStub, "registry", tenant="system")

    found = [
        one.release async for one in stub.SnapshotReleases(pb.SnapshotReleasesRequest()) if one.tenant == acme.name
    ]
    assert [one.traffic for one in found] == [traffic]


# The last one: a registry that is built anew in this process takes the place of the module's.
async def test_a_change_is_said_in_the_event_of_the_release(tmp_path: Path) -> None:
    async with house(tmp_path, "registry") as running:
        acme = await serving(Tenant(running))
        traffic = await share(acme, rule((2, 10.0)))
        events = await running.heard(ReleaseChanged, 3)

    assert [event.generation for event in events] == [1, 2, 3]
    assert events[2].release.traffic == traffic
