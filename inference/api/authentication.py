"""DRF's door to ``inference.principal``."""

from typing import TYPE_CHECKING

from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from inference.errors import AuthenticationError
from inference.principal import Principal, credential_of, principal_of

if TYPE_CHECKING:
    # At run time this would be a circle: DRF's views import this module as a setting.
    from rest_framework.views import APIView


class KeyOrTokenAuthentication(BaseAuthentication):
    """``Authorization: Bearer`` with an API key or a JWT."""

    def authenticate(self, request: Request) -> tuple[Principal, None]:
        """The caller. Raises ``AuthenticationError`` without a valid credential."""
        credential = credential_of(request.headers.get("Authorization", ""))
        if credential is None:
            raise AuthenticationError(
                "No API key was given. Send the header 'Authorization: Bearer <API key or JWT>'.",
                code="missing_api_key",
            )
        return principal_of(credential), None

    def authenticate_header(self, request: Request) -> str:
        """The challenge that goes with a 401."""
        return 'Bearer realm="brigade"'


class HasScope(BasePermission):
    """The caller has the scope that the view names in ``required_scope``."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        """True, or raises ``PermissionDeniedError`` naming the scope."""
        principal: Principal = request.user  # type: ignore[assignment]
        principal.require(view.required_scope)  # type: ignore[attr-defined]
        return True
