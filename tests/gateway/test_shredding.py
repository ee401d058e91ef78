"""A tenant whose keys are destroyed: nothing that was sealed for it opens again, whoever asks and whatever he kept."""

import asyncio
import base64
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import func, select, text

from aimass.v1 import access_pb2, privacy_pb2, quotas_pb2, roles_pb2
from aimass.v1 import subscriptions_pb2 as subscriptions
from aimass.v1.access_pb2_grpc import AccessStub
from aimass.v1.privacy_pb2_grpc import PrivacyFiltersStub
from aimass.v1.quotas_pb2_grpc import QuotasStub
from aimass.v1.registry_events_pb2 import ArtifactsStored
from aimass.v1.roles_pb2_grpc import RolesStub
from aimass.v1.storage_pb2 import KeptBytes
from aimass.v1.subscriptions_pb2_grpc import SubscriptionsStub
from services.gateway.access.domain import sealed_for
from services.gateway.access.resealing import Resealing
from services.gateway.access.shredding import Remains
from services.gateway.access.store import AccessStore
from services.gateway.database import schema
from services.kit import tenancy
from services.kit.adapters import storage
from services.kit.config import Installation, load
from services.kit.errors import Code, Failure
from services.kit.secrets import Vault
from services.kit.tenant_keys import TenantKeys
from services.logs.subscriptions.secrets import Secrets
from services.logs.subscriptions.service import context_of
from services.logs.subscriptions.store import Store
from tests.gateway.serving import DOORS, Serving
from tests.support.house import House, house, until
from tests.support.models import register, texts
from tests.support.refused import code_of
from tests.support.storages import own_server, settings

pytestmark = pytest.mark.asyncio(loop_scope="module")
LOST = (Code.FAILED_PRECONDITION, Code.NOT_FOUND)  # it does not open, and soon it is not there any more
SERVICES = ("gateway", "registry", "logs")
# What decision 56 keeps of a tenant: that he was there, who might do what, and what he owes.
LASTING = {"tenant", "api_key", "role", "binding", "policy_version", "policy_active", "rate_rule"}
LASTING |= {"quota", "quota_balance", "ledger", "price_list"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    async with house(tmp_path_factory.mktemp("shredding"), *SERVICES, **DOORS) as running:
        yield Serving(running)


def access(app: Serving, **more: str) -> Any:
    return app.house.stub(AccessStub, "gateway", tenant="default", **more)


async def filled(app: Serving, tenant: str) -> str:
    """A tenant with a key that signs, a webhook and a model; the digest of a blob of its."""
    await access(app).CreateTenant(access_pb2.CreateTenantRequest(tenant=tenant))
    signing = access_pb2.Signing(policy=access_pb2.SIGNATURE_POLICY_OPTIONAL)
    await access(app).CreateApiKey(access_pb2.CreateApiKeyRequest(tenant=tenant, permissions=["*"], signing=signing))
    webhook = subscriptions.Webhook(url="https://93.184.216.34/hook")
    wanted = subscriptions.CreateSubscriptionRequest(subscription="hooks", filter="alarm", webhook=webhook)
    await app.house.stub(SubscriptionsStub, "logs", tenant=tenant).CreateSubscription(wanted)
    await register(app.house, "notes", texts(), tenant=tenant)
    return await app.house.runtime.blobs.put(tenant, b"kept for " + tenant.encode())


async def delete(app: Serving, tenant: str) -> str:
    closed = await access(app, if_match="*").DeleteTenant(access_pb2.DeleteTenantRequest(tenant=tenant))
    return str(closed.etag)


async def shred(app: Serving, tenant: str, etag: str = "*") -> Any:
    return await access(app, if_match=etag).ShredTenant(access_pb2.ShredTenantRequest(tenant=tenant))


async def sealed(running: House, tenant: str) -> list[bytes]:
    """What the databases hold of a tenant's secrets."""
    found: list[bytes] = []
    for name, table, column in (("gateway", "api_key", "signing_secret"), ("logs", "subscription", "secret")):
        query = text(f"SELECT {column} FROM {table} WHERE tenant = :tenant")
        database = running.runtime.apps[name].database
        assert database
        with tenancy.everybody():
            found += await database.read(lambda c, query=query: list(c.execute(query, {"tenant": tenant}).scalars()))  # type: ignore[misc]
    return [bytes(secret) for secret in found if secret]


async def all_current(running: House, vault: Vault) -> bool:
    """Whether the key that seals now has sealed everything of acme."""
    wrapped = (running.runtime.home / "keys" / "tenants" / "acme" / "1").read_bytes()
    return all(vault.is_current(one) for one in (wrapped, *await sealed(running, "acme")))


async def test_what_was_sealed_for_a_shredded_tenant_opens_for_nobody(app: Serving, tmp_path: Path) -> None:
    home = app.house.runtime.home
    mine, other = await filled(app, "gone"), await filled(app, "stays")
    etag, before = await delete(app, "gone"), len(await sealed(app.house, "gone"))
    shutil.copytree(home / "blobs", tmp_path / "blobs")
    shredded = await shred(app, "gone", etag)
    shutil.copytree(home / "keys", tmp_path / "keys")
    copied = storage(load_home(tmp_path))

    async def dropped() -> bool:
        return not await sealed(app.house, "gone")

    assert shredded.HasField("shred_time")
    assert [path.name for path in (home / "keys" / "tenants" / "gone").iterdir()] == ["0"]
    for blobs, lost in ((app.house.runtime.blobs, LOST), (copied.blobs, LOST[:1])):
        assert await code_of(blobs.get("gone", mine)) in lost
        assert await code_of(blobs.put("gone", b"new")) is Code.FAILED_PRECONDITION
        assert await blobs.get("stays", other) == b"kept for stays"
    copied.blobs.close()
    assert before == 2
    await until(dropped, 20)
    await until(lambda: not (home / "blobs" / "gone").exists(), 20)
    assert await code_of(app.house.runtime.blobs.get("gone", mine)) is Code.NOT_FOUND
    assert len(await sealed(app.house, "stays")) == 2


async def rows(app: Serving, tenant: str) -> dict[str, int]:
    """How many the gateway's database has of a tenant, by table; none for those without."""
    database, found = app.house.runtime.apps["gateway"].database, dict[str, int]()
    assert database
    with tenancy.everybody():
        for table in schema.metadata.tables.values():
            if "tenant" in table.c:
                query = select(func.count()).select_from(table).where(table.c.tenant == tenant)
                found[table.name] = await database.read(lambda c, query=query: c.execute(query).scalar_one())  # type: ignore[misc]
    return {name: count for name, count in found.items() if count}


async def test_that_a_tenant_was_there_and_what_he_owes_stays_and_nothing_else(app: Serving) -> None:
    await filled(app, "owes")
    stubs = {
        kind: app.house.stub(kind, "gateway", tenant="owes") for kind in (QuotasStub, RolesStub, PrivacyFiltersStub)
    }
    budget: dict[str, Any] = {"meter": quotas_pb2.METER_REQUESTS, "period": quotas_pb2.PERIOD_TOTAL, "amount": 5}
    await stubs[QuotasStub].CreateQuota(quotas_pb2.CreateQuotaRequest(quota="few", subject="project:default", **budget))
    await stubs[RolesStub].CreateRole(roles_pb2.CreateRoleRequest(role="reads", permissions=["models.get"]))
    wanted = privacy_pb2.CreatePrivacyFilterRequest(privacy_filter="mine", models=["*"])
    wanted.rules.add(detector="email", action=privacy_pb2.PRIVACY_ACTION_MASK)
    await stubs[PrivacyFiltersStub].CreatePrivacyFilter(wanted)
    kept = KeptBytes(what="artifacts", bytes=1)
    kept.hour.FromDatetime(app.house.runtime.now())
    await app.house.publish(ArtifactsStored(kept=kept, generation=1), "storage", "artifacts", "owes")

    async def owed() -> bool:
        return "ledger" in await rows(app, "owes")

    async def dropped() -> bool:
        return "privacy_filter" not in await rows(app, "owes")

    await until(owed)
    before = await rows(app, "owes")
    await delete(app, "owes")
    await shred(app, "owes")
    await until(dropped, 20)
    for forget in app.house.runtime.apps["gateway"].forget:
        await forget(["owes"])  # to the end

    assert before.items() >= {"ledger": 1, "quota": 1, "role": 1, "privacy_filter": 1}.items()
    assert await rows(app, "owes") == {name: count for name, count in before.items() if name in LASTING}


def load_home(home: Path, **more: str) -> Installation:
    return load(Installation, {"AIMASS_HOME": str(home), **more})


async def test_a_shredded_tenant_does_not_come_back_and_is_shredded_once(app: Serving) -> None:
    await filled(app, "never")
    await delete(app, "never")
    first = await shred(app, "never")
    undelete = access(app).UndeleteTenant(access_pb2.UndeleteTenantRequest(tenant="never"))

    assert await code_of(undelete) is Code.FAILED_PRECONDITION
    assert await shred(app, "never", "1") == first  # a repeat is not held up by an etag that it changed itself
    create = access(app).CreateTenant(access_pb2.CreateTenantRequest(tenant="never"))
    assert await code_of(create) is Code.ALREADY_EXISTS


async def test_keys_that_a_crash_has_left_are_destroyed_by_the_next_start(tmp_path: Path) -> None:
    async with house(tmp_path, *SERVICES, **DOORS) as running:
        app = Serving(running)
        digest = await filled(app, "left")
        await delete(app, "left")
        kept = tmp_path / "kept"
        shutil.copytree(tmp_path / "keys" / "tenants" / "left", kept)
        await shred(app, "left")
    shutil.rmtree(tmp_path / "keys" / "tenants" / "left")
    kept.rename(tmp_path / "keys" / "tenants" / "left")
    async with house(tmp_path, *SERVICES, **DOORS) as running:
        await until(lambda: (tmp_path / "keys" / "tenants" / "left" / "0").exists(), 20)

        assert await code_of(running.runtime.blobs.get("left", digest)) in LOST


async def ended(
    app: Serving, tenant: str, keys: TenantKeys, back: Callable[[], object], log: pytest.LogCaptureFixture
) -> None:
    """A gateway destroys a tenant's keys in a store that is away when it looks, and then comes back."""
    await access(app).CreateTenant(access_pb2.CreateTenantRequest(tenant=tenant))
    await delete(app, tenant)
    await shred(app, tenant)
    database = app.house.runtime.apps["gateway"].database
    assert database
    task = asyncio.create_task(Remains(AccessStore(database), keys).run(again=0.01))

    async def destroyed() -> bool:
        try:
            return not await keys.current(tenant)
        except Failure as failure:
            return failure.code is Code.FAILED_PRECONDITION

    try:
        await until(lambda: "keys of tenants are destroyed later" in log.text, 60)
        assert not await destroyed()
        await asyncio.to_thread(back)
        await until(destroyed, 60)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_keys_whose_folder_is_away_are_destroyed_when_it_is_back(
    app: Serving, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = storage(load_home(tmp_path)).keys
    assert keys
    await keys.current("parted")
    folder, aside = tmp_path / "keys" / "tenants", tmp_path / "aside"
    folder.rename(aside)
    folder.write_bytes(b"no folder")

    def back() -> None:
        folder.unlink()
        aside.rename(folder)

    await ended(app, "parted", keys, back, caplog)

    assert [path.name for path in (folder / "parted").iterdir()] == ["0"]


@pytest.mark.far
async def test_keys_whose_bucket_is_away_are_destroyed_when_it_is_back(
    app: Serving, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with own_server(tmp_path / "s3") as server:
        keys = storage(load_home(tmp_path, **settings("sealed", server.address))).keys
        assert keys
        await keys.current("remote")
        server.kill()
        await ended(app, "remote", keys, server.start, caplog)


@pytest.mark.parametrize(("tenant", "etag", "code"), [
    ("open", "*", Code.FAILED_PRECONDITION),
    ("closed", "77", Code.ETAG_MISMATCH),
    ("nobody", "*", Code.NOT_FOUND),
    ("default", "*", Code.FAILED_PRECONDITION),
])  # fmt: skip
async def test_what_is_not_to_be_shredded_is_not(app: Serving, tenant: str, etag: str, code: Code) -> None:
    if tenant in ("open", "closed"):
        await access(app).CreateTenant(access_pb2.CreateTenantRequest(tenant=tenant))
    if tenant == "closed":
        await delete(app, tenant)

    assert await code_of(shred(app, tenant, etag)) is code


async def test_only_administrators_of_the_installation_shred(app: Serving) -> None:
    digest = await filled(app, "mine")
    for scope, code in (("mine", Code.FORBIDDEN), ("stranger", Code.NOT_FOUND)):
        stub = app.house.stub(AccessStub, "gateway", tenant=scope, if_match="*")
        assert await code_of(stub.ShredTenant(access_pb2.ShredTenantRequest(tenant="mine"))) is code

    assert await app.house.runtime.blobs.get("mine", digest) == b"kept for mine"


async def test_the_installations_key_is_changed_and_everything_opens_with_the_new_one_alone(tmp_path: Path) -> None:
    old, new = (base64.b64encode(letter * 32).decode() for letter in (b"a", b"b"))
    async with house(tmp_path, *SERVICES, **DOORS, AIMASS_SECRETS_KEY=old) as running:
        digest = await filled(Serving(running), "acme")
    both = {"AIMASS_SECRETS_KEY": new, "AIMASS_SECRETS_OLD_KEYS": old}
    async with house(tmp_path, *SERVICES, **DOORS, **both) as running:
        vault, runtime = Vault(tmp_path / "none", new), running.runtime
        assert await runtime.blobs.get("acme", digest) == b"kept for acme"
        await until(lambda: all_current(running, vault), 20)
    async with house(tmp_path, *SERVICES, **DOORS, AIMASS_SECRETS_KEY=new) as running:
        assert await running.runtime.blobs.get("acme", digest) == b"kept for acme"
        assert len(await sealed(running, "acme")) == 2


async def seal_as_before(vault: Vault, keys: AccessStore, hooks: Store) -> None:
    """What a process does to the secrets of acme that has this key."""
    for key, _ in (await keys.everything())[1]:
        if key.tenant == "acme" and key.signing:
            old = vault.seal(b"secret", sealed_for(key.api_key))
            assert await keys.renew_secret("acme", key.api_key, key.signing.sealed, old)
    for scope, name, sealed_now in await hooks.secrets():
        assert await hooks.renew_secret(scope, name, sealed_now, vault.seal(b"secret", context_of(scope, name)))


async def test_secrets_are_sealed_anew_that_a_process_sealed_which_still_had_the_old_key_first(tmp_path: Path) -> None:
    old, new = (base64.b64encode(letter * 32).decode() for letter in (b"a", b"b"))
    vault = Vault(tmp_path / "none", new, old)
    async with house(tmp_path, *SERVICES, **DOORS, AIMASS_SECRETS_KEY=new, AIMASS_SECRETS_OLD_KEYS=old) as running:
        await filled(Serving(running), "acme")
        keys, hooks = (running.runtime.apps[name].database for name in ("gateway", "logs"))
        assert keys
        assert hooks
        resealing, secrets = Resealing(AccessStore(keys), vault), Secrets(Store(hooks), vault)
        tasks = [asyncio.create_task(task(every=0.01)) for task in (resealing.run, secrets.renew)]
        try:
            for _ in range(2):  # behind the look that a start takes as well
                await seal_as_before(Vault(tmp_path / "none", old), AccessStore(keys), Store(hooks))
                await until(lambda: all_current(running, vault), 20)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_key_in_the_home_folder_is_changed_by_putting_it_aside(tmp_path: Path) -> None:
    async with house(tmp_path, *SERVICES, **DOORS) as running:
        digest = await filled(Serving(running), "acme")
    keys = tmp_path / "keys"
    (keys / "secrets.key").rename(keys / "secrets.1.key")
    async with house(tmp_path, *SERVICES, **DOORS) as running:
        vault = Vault(keys)
        await until(lambda: all_current(running, vault), 20)
    (keys / "secrets.1.key").unlink()
    async with house(tmp_path, *SERVICES, **DOORS) as running:
        assert await running.runtime.blobs.get("acme", digest) == b"kept for acme"


async def test_a_tenant_gets_another_key_once_and_what_was_sealed_before_opens(app: Serving) -> None:
    digest = await filled(app, "turns")
    rotate = access_pb2.RotateTenantKeyRequest(tenant="turns", number=1)
    own, foreign = (app.house.stub(AccessStub, "gateway", tenant=tenant) for tenant in ("turns", "stranger"))
    numbers = [(await own.GetTenantKey(access_pb2.GetTenantKeyRequest(tenant="turns"))).number]
    numbers += [(await own.RotateTenantKey(rotate)).number for _ in range(2)]
    later = await app.house.runtime.blobs.put("turns", b"later")

    assert numbers == [1, 2, 2]
    assert await code_of(foreign.RotateTenantKey(rotate)) is Code.NOT_FOUND
    assert await app.house.runtime.blobs.get("turns", digest) == b"kept for turns"
    assert await app.house.runtime.blobs.get("turns", later) == b"later"
