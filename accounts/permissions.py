"""Who may do what: viewers read, operators run and change backups, administrators manage everything else."""

from typing import Any

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from accounts.models import User


class RolePermission(BasePermission):
    """Lets viewers read and operators write, unless the view sets `read_role` or `write_role`."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.method in SAFE_METHODS:
            role = getattr(view, "read_role", User.Role.VIEWER)
        else:
            role = getattr(view, "write_role", User.Role.OPERATOR)
        return isinstance(request.user, User) and request.user.has_role(role)
