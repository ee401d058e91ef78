"""Events and messages of roles and bindings."""

from datetime import datetime

from aimass.v1 import gateway_events_pb2 as events
from aimass.v1 import roles_pb2 as pb
from services.gateway.roles.domain import Binding, Role
from services.kit.auth import Scope
from services.kit.bus import Event
from services.kit.timestamps import to_wire

_SOURCE = "gateway"


def role_to_wire(role: Role) -> pb.Role:
    """A role as callers and listeners see it."""
    return pb.Role(
        role=role.role,
        description=role.description,
        permissions=role.permissions,
        built_in=role.built_in,
        etag=str(role.generation),
        create_time=None if role.built_in else to_wire(role.create_time),
        update_time=None if role.built_in else to_wire(role.update_time),
        delete_time=to_wire(role.delete_time),
    )


def binding_to_wire(binding: Binding) -> pb.Binding:
    """A binding as callers and listeners see it."""
    return pb.Binding(
        binding=binding.binding,
        role=binding.role,
        principal=binding.principal,
        projects=binding.projects,
        objects=binding.objects,
        etag=str(binding.generation),
        create_time=to_wire(binding.create_time),
        delete_time=to_wire(binding.delete_time),
    )


def role_changed(role: Role, now: datetime) -> Event:
    """A role as it is from now on."""
    message = events.RoleChanged(role=role_to_wire(role), generation=role.generation)
    return Event.of(message, Scope(role.tenant), "roles", role.role, _SOURCE, now)


def binding_changed(binding: Binding, now: datetime) -> Event:
    """A binding as it is from now on."""
    message = events.BindingChanged(binding=binding_to_wire(binding), generation=binding.generation)
    return Event.of(message, Scope(binding.tenant), "bindings", binding.binding, _SOURCE, now)
