"""Events and messages of tenants, keys and audited calls."""

from collections.abc import Mapping
from datetime import datetime

from aimass.v1 import access_pb2 as pb
from aimass.v1 import gateway_events_pb2 as events
from aimass.v1.audit_events_pb2 import CallAudited
from services.gateway.access.domain import ApiKey, Signing, Tenant
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.timestamps import to_wire

_SOURCE = "gateway"


def tenant_to_wire(tenant: Tenant) -> pb.Tenant:
    """A tenant as callers and listeners see it."""
    return pb.Tenant(
        tenant=tenant.tenant,
        display_name=tenant.display_name,
        etag=str(tenant.generation),
        create_time=to_wire(tenant.create_time),
        delete_time=to_wire(tenant.delete_time),
        shred_time=to_wire(tenant.shred_time),
    )


def key_to_wire(key: ApiKey) -> pb.ApiKey:
    """A key as callers and listeners see it: without its secret."""
    limit = key.rate_limit
    return pb.ApiKey(
        api_key=key.api_key,
        display_name=key.display_name,
        tenant=key.tenant,
        projects=key.projects,
        permissions=key.permissions,
        roles=key.roles,
        rate_limit=pb.RateLimit(rate=limit.rate, burst=limit.burst) if limit else None,
        create_time=to_wire(key.create_time),
        expire_time=to_wire(key.expire_time),
        revoke_time=to_wire(key.revoke_time),
        signing=_signing(key.signing) if key.signing else None,
        addresses=key.addresses,
        models=key.models,
        certificates=key.certificates,
        rotate_time=to_wire(key.rotate_time),
        old_expire_time=to_wire(key.replaced.until) if key.replaced else None,
        etag=str(key.generation),
    )


def _signing(signing: Signing) -> pb.Signing:
    policy = pb.SIGNATURE_POLICY_REQUIRED if signing.required else pb.SIGNATURE_POLICY_OPTIONAL
    return pb.Signing(policy=policy, public_key=signing.public_key, algorithm=signing.algorithm)


def tenant_changed(tenant: Tenant, now: datetime) -> Event:
    """A tenant as it is from now on."""
    message = events.TenantChanged(tenant=tenant_to_wire(tenant), generation=tenant.generation)
    return Event.of(message, Scope(tenant.tenant), "tenants", tenant.tenant, _SOURCE, now)


def key_changed(key: ApiKey, now: datetime) -> Event:
    """A key as it is from now on."""
    message = events.ApiKeyChanged(api_key=key_to_wire(key), generation=key.generation)
    return Event.of(message, Scope(key.tenant), "api-keys", key.api_key, _SOURCE, now)


def call_audited(scope: Scope, fields: Mapping[str, str], now: datetime) -> Event:
    """`fields` has the text fields of CallAudited."""
    message = CallAudited(**fields, time=to_wire(now))
    return Event.of(message, scope, "calls", fields["request_id"] or "unnamed", _SOURCE, now)
