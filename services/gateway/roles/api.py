"""The RPCs of Roles."""

from aimass.v1 import roles_pb2 as pb
from services.gateway.roles.domain import Binding, RoleChange
from services.gateway.roles.events import binding_to_wire, role_to_wire
from services.gateway.roles.service import Roles
from services.kit.fields import masked
from services.kit.rpc import Call

_MASK = ("description", "permissions")


class RolesApi:
    """Servicer of aimass.v1.Roles."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles

    async def CreateRole(self, request: pb.CreateRoleRequest, call: Call) -> pb.Role:
        wanted = RoleChange(request.description, tuple(request.permissions))
        return role_to_wire(await self._roles.create(call.principal, request.role, wanted, call.once(role_to_wire)))

    async def GetRole(self, request: pb.GetRoleRequest, call: Call) -> pb.Role:
        return role_to_wire(await self._roles.get(call.principal, request.role))

    async def ListRoles(self, request: pb.ListRolesRequest, call: Call) -> pb.ListRolesResponse:
        page = await self._roles.list(call.principal, request.page_size, request.page_token, request.show_deleted)
        return pb.ListRolesResponse(roles=map(role_to_wire, page.items), next_page_token=page.next_token)

    async def UpdateRole(self, request: pb.UpdateRoleRequest, call: Call) -> pb.Role:
        return role_to_wire(await self._roles.update(call.principal, request.role, _change(request), call.etag))

    async def DeleteRole(self, request: pb.DeleteRoleRequest, call: Call) -> pb.Role:
        return role_to_wire(await self._roles.delete(call.principal, request.role, call.etag))

    async def UndeleteRole(self, request: pb.UndeleteRoleRequest, call: Call) -> pb.Role:
        return role_to_wire(await self._roles.undelete(call.principal, request.role))

    async def CreateBinding(self, request: pb.CreateBindingRequest, call: Call) -> pb.Binding:
        wanted = Binding(
            request.binding,
            call.scope.tenant,
            request.role,
            request.principal,
            tuple(request.projects),
            tuple(request.objects),
            call.now(),
        )
        return binding_to_wire(await self._roles.bind(call.principal, wanted, call.once(binding_to_wire)))

    async def GetBinding(self, request: pb.GetBindingRequest, call: Call) -> pb.Binding:
        return binding_to_wire(await self._roles.binding(call.principal, request.binding))

    async def ListBindings(self, request: pb.ListBindingsRequest, call: Call) -> pb.ListBindingsResponse:
        page = await self._roles.bindings(call.principal, request.page_size, request.page_token, request.show_deleted)
        return pb.ListBindingsResponse(bindings=map(binding_to_wire, page.items), next_page_token=page.next_token)

    async def DeleteBinding(self, request: pb.DeleteBindingRequest, call: Call) -> pb.Binding:
        return binding_to_wire(await self._roles.unbind(call.principal, request.binding, call.etag))

    async def UndeleteBinding(self, request: pb.UndeleteBindingRequest, call: Call) -> pb.Binding:
        return binding_to_wire(await self._roles.bind_again(call.principal, request.binding))


def _change(request: pb.UpdateRoleRequest) -> RoleChange:
    fields = masked(request, _MASK)
    return RoleChange(
        request.description if "description" in fields else None,
        tuple(dict.fromkeys(request.permissions)) if "permissions" in fields else None,
    )
