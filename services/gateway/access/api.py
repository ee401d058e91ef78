"""The RPCs of Access, and events of keys and tenants."""

from dataclasses import replace
from typing import Protocol

from google.protobuf.empty_pb2 import Empty

from aimass.v1 import access_pb2 as pb
from aimass.v1 import gateway_events_pb2 as events
from services.gateway.access.changes import FIELDS
from services.gateway.access.domain import KeyRequest, NewKey, RateLimit, Signing
from services.gateway.access.events import key_to_wire, tenant_to_wire
from services.gateway.access.keeping import Keeping
from services.gateway.access.service import AccessService
from services.gateway.access.shredding import Shredding
from services.kit.fields import masked
from services.kit.inbox import Delivery
from services.kit.rpc import Call
from services.kit.timestamps import from_wire

Changed = events.ApiKeyChanged | events.TenantChanged | events.RoleChanged | events.BindingChanged


class ReceiptKey(Protocol):
    """The key that receipts are verified with."""

    @property
    def key_id(self) -> str: ...

    @property
    def public_key(self) -> bytes: ...


class AccessApi:
    """Servicer of aimass.v1.Access."""

    def __init__(self, access: AccessService, keeping: Keeping, receipts: ReceiptKey, shredding: Shredding) -> None:
        self._access, self._keeping, self._receipts, self._shredding = access, keeping, receipts, shredding

    async def WhoAmI(self, request: pb.WhoAmIRequest, call: Call) -> pb.Principal:
        caller = call.principal
        return pb.Principal(
            tenant=caller.scope.tenant,
            project=caller.scope.project,
            principal=caller.id,
            permissions=self._access.permissions(caller),
        )

    async def GetReceiptKey(self, request: pb.GetReceiptKeyRequest, call: Call) -> pb.ReceiptKey:
        found = self._receipts
        return pb.ReceiptKey(key_id=found.key_id, public_key=found.public_key, algorithm="ed25519")

    async def CreateTenant(self, request: pb.CreateTenantRequest, call: Call) -> pb.Tenant:
        once = call.once(tenant_to_wire)
        made = await self._access.create_tenant(call.principal, request.tenant, request.display_name, once)
        return tenant_to_wire(made)

    async def GetTenant(self, request: pb.GetTenantRequest, call: Call) -> pb.Tenant:
        return tenant_to_wire(await self._access.tenant(call.principal, request.tenant))

    async def ListTenants(self, request: pb.ListTenantsRequest, call: Call) -> pb.ListTenantsResponse:
        page = await self._access.tenants(call.principal, request.page_size, request.page_token)
        return pb.ListTenantsResponse(tenants=map(tenant_to_wire, page.items), next_page_token=page.next_token)

    async def DeleteTenant(self, request: pb.DeleteTenantRequest, call: Call) -> pb.Tenant:
        return tenant_to_wire(await self._access.delete_tenant(call.principal, request.tenant, call.etag))

    async def UndeleteTenant(self, request: pb.UndeleteTenantRequest, call: Call) -> pb.Tenant:
        return tenant_to_wire(await self._access.undelete_tenant(call.principal, request.tenant))

    async def ShredTenant(self, request: pb.ShredTenantRequest, call: Call) -> pb.Tenant:
        return tenant_to_wire(await self._shredding.shred(call.principal, request.tenant, call.etag))

    async def GetTenantKey(self, request: pb.GetTenantKeyRequest, call: Call) -> pb.TenantKey:
        return pb.TenantKey(tenant=request.tenant, number=await self._shredding.number(call.principal, request.tenant))

    async def RotateTenantKey(self, request: pb.RotateTenantKeyRequest, call: Call) -> pb.TenantKey:
        number = await self._shredding.rotate(call.principal, request.tenant, request.number)
        return pb.TenantKey(tenant=request.tenant, number=number)

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, call: Call) -> pb.CreatedApiKey:
        wanted = replace(_wanted(request), tenant=request.tenant, bindings_only=request.bindings_only)
        return created_to_wire(await self._access.create_key(call.principal, wanted, call.once(created_to_wire)))

    async def UpdateApiKey(self, request: pb.UpdateApiKeyRequest, call: Call) -> pb.CreatedApiKey:
        fields = masked(request, FIELDS)
        once, who = call.once(created_to_wire), call.principal
        made = await self._keeping.update(who, request.api_key, _wanted(request), fields, call.etag, once)
        return created_to_wire(made)

    async def RotateApiKey(self, request: pb.RotateApiKeyRequest, call: Call) -> pb.CreatedApiKey:
        until, once = from_wire(request.old_expire_time), call.once(created_to_wire)
        return created_to_wire(await self._keeping.rotate(call.principal, request.api_key, until, once))

    async def GetApiKey(self, request: pb.GetApiKeyRequest, call: Call) -> pb.ApiKey:
        return key_to_wire(await self._access.key(call.principal, request.api_key))

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, call: Call) -> pb.ListApiKeysResponse:
        page = await self._access.keys(call.principal, request.page_size, request.page_token)
        return pb.ListApiKeysResponse(api_keys=map(key_to_wire, page.items), next_page_token=page.next_token)

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, call: Call) -> Empty:
        await self._keeping.revoke(call.principal, request.api_key)
        return Empty()

    async def changed(self, message: Changed, delivery: Delivery) -> None:
        """Another gateway, or this one, changed a key, a tenant, a role or a binding."""
        following = self._access.following
        if isinstance(message, events.TenantChanged):
            await following.heard_of_tenant(message.tenant.tenant, message.generation)
        elif isinstance(message, events.ApiKeyChanged):
            await following.heard_of_key(message.api_key.api_key, message.generation)
        else:
            await following.reload()


def created_to_wire(made: NewKey) -> pb.CreatedApiKey:
    """A key with the secrets that were just made for it."""
    return pb.CreatedApiKey(api_key=key_to_wire(made.key), secret=made.secret, signing_secret=made.signing_secret)


def _wanted(request: pb.CreateApiKeyRequest | pb.UpdateApiKeyRequest) -> KeyRequest:
    limit = request.rate_limit
    return KeyRequest(
        request.display_name,
        projects=tuple(request.projects),
        permissions=tuple(request.permissions),
        rate_limit=RateLimit(limit.rate, limit.burst) if request.HasField("rate_limit") else None,
        expire_time=from_wire(request.expire_time),
        signing=_signing(request.signing) if request.HasField("signing") else None,
        roles=tuple(dict.fromkeys(request.roles)),
        addresses=tuple(dict.fromkeys(request.addresses)),
        models=tuple(dict.fromkeys(request.models)),
        certificates=tuple(dict.fromkeys(request.certificates)),
    )


def _signing(wanted: pb.Signing) -> Signing | None:
    if wanted.policy == pb.SIGNATURE_POLICY_NONE:
        return None
    return Signing(wanted.policy == pb.SIGNATURE_POLICY_REQUIRED, wanted.public_key)
